# SPDX-License-Identifier: MIT
# A little of much that perl and its core modules do, on large data; prints checksums only.
use strict;
use warnings;
use Compress::Zlib qw(compress uncompress);
use Data::Dumper;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(sha256_hex);
use Encode qw(encode decode);
use File::Temp qw(tempfile);
use IO::Handle;
use JSON::PP;
use List::Util qw(sum max first shuffle reduce);
use Math::BigInt;
use MIME::Base64;
use POSIX qw(floor);
use Socket;
use Storable qw(freeze thaw dclone);
use Tie::File;
use Time::Local;

my $seed = 99;
sub dice { $seed = ($seed * 1103515245 + 12345) % 2147483648; return $seed % $_[0]; }
sub show { my ($name, @what) = @_; print "$name ", length(join '', @what), ' ', sha256_hex(join "\0", @what), "\n"; }

my $text = join '', map { chr(97 + dice(26)) . (dice(7) ? '' : ' ') } 1 .. 600_000;
show('text', $text);
show('base64', encode_base64($text), decode_base64(encode_base64($text)) eq $text);
show('zlib', uncompress(compress($text x 8)) eq $text x 8);
show('md5', md5_hex($text x 20));

my $wide = decode('UTF-8', "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa2" x 150_000);
show('wide', length $wide, sha256_hex(encode('UTF-16LE', $wide)), encode('UTF-8', scalar reverse $wide));

my %words;
$words{$_}++ for split ' ', $text;
my @sorted = sort { $words{$b} <=> $words{$a} or $a cmp $b } keys %words;
show('words', scalar @sorted, map { "$_=$words{$_}" } @sorted[0 .. 200]);
show('grep', grep { /^(.)(.).*\2\1$/ } @sorted);
(my $changed = $text) =~ s/(\w{3,5}) (\w)/uc($1) . "-$2"/ge;
show('changed', $changed);
(my $translated = $text) =~ tr/a-m/n-z/;
show('translated', $translated, ($text =~ tr/e//));
show('matches', scalar(() = $text =~ /(?=(aa|bb|cc))/g), join ',', ($text =~ /\b(q\w+z)\b/g)[0 .. 20]);

my $tree = {map { my $n = $_; $n => [map { {number => $n * $_, name => "item $_", list => [1 .. $_ % 9]} } 1 .. 60] } 1 .. 400};
my $json = JSON::PP->new->canonical;
my $copy = dclone($tree);
show('frozen', $json->encode(thaw(freeze($tree))) eq $json->encode($copy));
$Data::Dumper::Sortkeys = $Data::Dumper::Indent = 1;
show('dumped', Dumper($tree));
show('json', $json->encode($json->decode($json->encode({map { $_ => $tree->{$_} } 1 .. 40}))));

my $factorial = reduce { $a * $b } map { Math::BigInt->new($_) } 1 .. 600;
show('factorial', "$factorial");
show('packed', pack('(w n/a* d< Q>)*', map { ($_, "s$_", $_ / 7, $_ << 33) } 1 .. 60_000));
show('sums', sum(1 .. 500_000), max(map { dice(1_000_000) } 1 .. 200_000), floor(10.7), first { $_ > 77 } 1 .. 100);
show('time', map { scalar gmtime(timegm(0, 0, 0, 1, $_ % 12, 1990 + $_ % 40)) } 1 .. 500);
vec(my $bits = '', 16_000_000, 1) = 1;
show('bits', unpack('%32b*', $bits), length $bits);

my @closures = map { my $n = $_; my $held = 'x' x (1000 * $n); sub { $n += shift; length($held) + $n } } 1 .. 300;
show('closures', map { $closures[$_]->($_) } 0 .. 299);
my @matrix = map { [map { dice(100) } 1 .. 150] } 1 .. 150;
my @product = map { my $r = $_; [map { my $c = $_; sum(map { $matrix[$r][$_] * $matrix[$_][$c] } 0 .. 149) } 0 .. 149] } 0 .. 39;
show('matrix', map { @$_ } @product);

my ($handle, $file) = tempfile(UNLINK => 1);
print {$handle} "line $_ ", 'y' x dice(300), "\n" for 1 .. 20_000;
close $handle;
tie my @lines, 'Tie::File', $file or die "tie: $!";
$lines[$_] .= ' more' for map { $_ * 500 } 0 .. 19;
splice @lines, 5000, 10_000;
show('tied', scalar @lines, $lines[4999], $lines[-1]);
untie @lines;
{ local ($/, @ARGV) = (undef, $file); show('slurped', <>) }
open my $memory, '>', \my $buffer or die "open: $!";
print {$memory} $text for 1 .. 10;
close $memory;
show('buffer', $buffer);

socketpair(my $left, my $right, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
my $child = fork // die "fork: $!";
if (!$child) { close $left; local $/; my $got = <$right>; print {$right} sha256_hex($got); $right->flush; POSIX::_exit(0); }
close $right;
print {$left} $text x 5;
$left->flush;
shutdown $left, 1;
show('socket', do { local $/; <$left> });
waitpid $child, 0;
show('status', $?, `echo from a shell`, eval { die {code => 7} } // $@->{code});
