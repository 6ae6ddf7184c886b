# SPDX-License-Identifier: MIT
# Large strings and arrays, garbage collection with compaction, threads, fork, a round trip through zlib.
require 'digest'
require 'zlib'

def show(name, text)
  puts "#{name} #{text.bytesize} #{Digest::SHA256.hexdigest(text)}"
end

random = Random.new(42)
noise = random.bytes(6_000_000)
show 'noise', noise

grown = String.new
200_000.times { |i| grown << "line #{i} #{i * 7919 % 10_007}\n" }
show 'grown', grown

pieces = (0...12).map { |i| noise.byteslice(i * 100_000, 4_000_000) + grown }
pieces.delete_if.with_index { |_, i| i % 3 == 1 }
GC.start
GC.compact
show 'pieces', pieces.join

words = grown.split
show 'sorted', words.sort.join(' ')
show 'replaced', grown.gsub(/(\d+) (\d+)/) { "#{Regexp.last_match(2)}-#{Regexp.last_match(1)}" }
show 'packed', (0...1_000_000).map { |i| (i * 2_654_435_761) & 0xffffffff }.pack('N*')
show 'inflated', Zlib.inflate(Zlib.deflate(pieces.first))
show 'encoded', grown.encode('UTF-16LE').encode('UTF-8')

threads = (0...4).map do |number|
  Thread.new { (noise.byteslice(number * 1000, 5_000_000) * 2).sum }
end
puts "threads #{threads.map(&:value).join(' ')}"

reader, writer = IO.pipe
child = fork do
  reader.close
  copy = noise + grown
  writer.write Digest::SHA256.hexdigest(copy)
  writer.close
end
writer.close
puts "child #{reader.read}"
Process.wait(child)
puts "status #{Process.last_status.exitstatus}"
