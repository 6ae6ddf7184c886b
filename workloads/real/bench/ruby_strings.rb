# SPDX-License-Identifier: MIT
# Strings of 4 to 12 MB, made, joined, changed and dropped, as a report or template generator does.
require 'zlib'

ROUNDS = 200

scale = 1.0
case ARGV
in [] then nil
in ['--scale', number] then scale = Float(number)
else abort "usage: #{$PROGRAM_NAME} [--scale F]"
end
rounds = [1, (ROUNDS * scale).round].max

base = (0...250).map(&:chr).join * 16_000
total = 0
kept = []
rounds.times do |number|
  size = 4_000_000 + (number % 5) * 2_000_000
  text = base * 3
  part = text.byteslice(0, size)
  part.setbyte(number, 65)
  joined = part + part.byteslice(0, 1_000_000)
  buffer = String.new(capacity: size)
  buffer << joined.byteslice(0, size / 2) << joined.byteslice(size / 2, size / 2)
  kept << buffer
  kept.shift if kept.length > 3
  total = Zlib.crc32(buffer.byteslice(0, 4096), total)
end
puts "ruby_strings #{rounds} #{kept.sum(&:bytesize)} #{total.to_s(16)}"
