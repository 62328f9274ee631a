# packages: perl-base,dash,coreutils
# expect: the child said 285
# expect: status 5
# expect: dlrow
# expect: alarm
# expect: 3 lines
cat > /tmp/program.pl <<'END'
use strict;
use warnings;
pipe(my $from, my $to) or die;
my $child = fork() // die;
if ($child == 0) {
    my $sum = 0;
    $sum += $_ * $_ for 1 .. 9;
    syswrite $to, "$sum\n";
    exit 5;
}
close $to;
print "the child said ", scalar <$from>;
waitpid $child, 0;
print "status ", $? >> 8, "\n";
(my $text = "hello world") =~ s/(\w+) (\w+)/reverse $2/e;
print "$text\n";
eval { local $SIG{ALRM} = sub { die "alarm\n" }; alarm 1; select undef, undef, undef, 60; };
print $@;
open my $file, "+>", "/tmp/file" or die;
print $file "a\nb\nc\n";
seek $file, 0, 0;
my @lines = <$file>;
print scalar @lines, " lines\n";
END
exec perl /tmp/program.pl
