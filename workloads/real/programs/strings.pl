# SPDX-License-Identifier: MIT
# Large strings, hashes, regular expressions, fork and threads; prints checksums only.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use threads;

my $seed = 12345;
sub next_number { $seed = ($seed * 1103515245 + 12345) % 2147483648; return $seed; }

my $grown = '';
for my $round (1 .. 400_000) {
    $grown .= sprintf('%08x-%d;', next_number(), $round);
}
print 'grown ', length($grown), ' ', sha256_hex($grown), "\n";

my %count;
$count{$_}++ for map { $_ % 50_000 } map { next_number() >> 7 } 1 .. 300_000;
my @top = sort { $count{$b} <=> $count{$a} || $a <=> $b } keys %count;
print 'top ', join(',', map { "$_=$count{$_}" } @top[0 .. 4]), ' of ', scalar(@top), "\n";

my @copies = map { scalar reverse $grown } 1 .. 6;
(my $replaced = $copies[0]) =~ s/([0-9a-f]{4})-/<$1>/g;
print 'replaced ', length($replaced), ' ', sha256_hex($replaced), "\n";
splice(@copies, 1, 3);
print 'copies ', scalar(@copies), ' ', sha256_hex(join('', @copies)), "\n";

my @packed = unpack('N*', pack('N*', map { next_number() } 1 .. 500_000));
@packed = sort { $a <=> $b } @packed;
print 'packed ', sha256_hex(pack('N*', @packed)), "\n";

my @answers;
for my $child (1 .. 4) {
    my $pid = open(my $pipe, '-|') // die "fork: $!";
    if (!$pid) {
        my $text = substr($grown, $child * 1000, 2_000_000) x 3;
        undef $grown;
        print sha256_hex($text), "\n";
        exit 0;
    }
    push @answers, scalar <$pipe>;
    close($pipe) or die "child: $?";
}
print "child $_" for @answers;

my @threads = map {
    my $number = $_;
    threads->create(sub {
        my $text = "$number:" x 500_000;
        $text .= $text for 1 .. 2;
        return sha256_hex($text);
    });
} 1 .. 4;
print 'thread ', $_->join(), "\n" for @threads;
