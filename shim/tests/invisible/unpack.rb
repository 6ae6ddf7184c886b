# SPDX-License-Identifier: MIT
# Takes texts apart into arrays that are far larger than what is used of them. usage: unpack.rb ROUNDS BYTES KEPT FORMAT
rounds, bytes, kept, format = ARGV[0].to_i, ARGV[1].to_i, ARGV[2].to_i, ARGV[3]
text = "a" * bytes
sum = 0
rounds.times do
  copy = text.dup
  copy << "b"
  sum += text.unpack(format).first(kept).sum + copy.bytesize
end
puts "sum: #{sum}"
puts "peak #{File.read('/proc/self/status')[/VmHWM:\s+(\d+)/, 1].to_i / 1024}"
