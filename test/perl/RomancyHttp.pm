# RomancyHttp: the server test/perl/http_server.py, for tests of HTTP requests.
package RomancyHttp;

use strict;
use warnings;
use Exporter 'import';
use FindBin;
use IPC::Run ();
use JSON::PP ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

our @EXPORT = qw(has_http);

# was romancy built with libcurl?
sub has_http
{
	my ($lib) = ($ENV{ROMANCY_CONF} // '') =~ /dynamic_library_path = '([^:']+)/;
	chomp(my $own = `pg_config --pkglibdir`);
	return grep { defined && -f "$_/romancy_http.so" } $lib, $own, glob("$ENV{ROMANCY_WORK}/server/lib/postgresql");
}

# new($node): a server, started, whose files are in the node's folder
sub new
{
	my ($class, $node) = @_;
	my $self = bless { port => $node->basedir . '/http.port', log => $node->basedir . '/http.log', seen => 0 }, $class;
	$self->{run} = IPC::Run::start([ '/usr/bin/python3', "$FindBin::RealBin/../perl/http_server.py", $self->{port}, $self->{log} ],
		'<', '/dev/null', '>', $node->basedir . '/http.out', '2>&1');
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	usleep(20_000) until -f $self->{port} || time > $deadline;
	chomp($self->{number} = slurp_file($self->{port}));
	return $self;
}

sub port { return $_[0]{number} }
sub url { return "http://127.0.0.1:$_[0]{number}" }

# let($name): requests to /until/$name have their answer from now on
sub let { my ($self, $name) = @_; open my $fh, '>', "$self->{port}.$name" or die "$self->{port}.$name: $!"; return }

# what was noted since forget(): requests; connections that clients closed early
sub notes
{
	my ($self) = @_;
	open my $fh, '<', $self->{log} or die "$self->{log}: $!";
	my @lines = grep { /\n\z/ } <$fh>;
	$self->{lines} = @lines;
	return map { JSON::PP::decode_json($_) } @lines[ $self->{seen} .. $#lines ];
}
sub requests { return grep { exists $_->{path} } $_[0]->notes }
sub closed { return grep { exists $_->{closed} } $_[0]->notes }
sub forget { my ($self) = @_; $self->notes; $self->{seen} = $self->{lines}; return }
sub stop { my ($self) = @_; $self->{run}->kill_kill(grace => 1); return }

1;
