# RomancyNginx: nginx in front of test/perl/http_server.py, for tests of requests with TLS, with a CA of the test's own.
package RomancyNginx;

use strict;
use warnings;
use IO::Socket::INET;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(usleep);

# are nginx and openssl there? Else: why the test is skipped.
sub lacks
{
	return 'nginx is not there' unless $ENV{ROMANCY_NGINX} && -x $ENV{ROMANCY_NGINX};
	return 'openssl is not there' unless grep { -x "$_/openssl" } split /:/, $ENV{PATH};
	return;
}

sub openssl { system_or_bail('openssl', @_); return }

# certificate($name, $names, $days): by the CA; names as subjectAltName has them
sub certificate
{
	my ($self, $name, $names, $days) = @_;
	my $file = "$self->{dir}/$name";
	append_to_file("$file.ext", "subjectAltName = $names\n");
	openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$file.key", '-out', "$file.csr", '-subj', "/CN=$name", '-batch');
	openssl('x509', '-req', '-in', "$file.csr", '-CA', $self->ca, '-CAkey', "$self->{dir}/ca.key", '-set_serial', ++$self->{serial}, '-days', $days // 30, '-out', "$file.crt", '-extfile', "$file.ext");
	return;
}

# new($node, $url): nginx, started, whose files are in the node's folder. It passes on what it gets to $url, at a port for each of: h2, h1 (without HTTP/2), few (which ends a
# connection after 50 requests), client (which wants a certificate), named (which has a certificate for another name), expired, stranger (of another CA).
sub new
{
	my ($class, $node, $url) = @_;
	my $dir = $node->basedir . '/nginx';
	my $self = bless { dir => $dir, seen => 0 }, $class;
	mkdir $dir or die "$dir: $!";
	openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', "$dir/$_.key", '-out', "$dir/$_.crt", '-days', 30, '-subj', "/CN=$_", '-batch', '-addext', 'subjectAltName = IP:127.0.0.1') for qw(ca stranger);
	$self->certificate('here', 'IP:127.0.0.1, DNS:localhost');
	$self->certificate('elsewhere', 'DNS:api.example.com');
	$self->certificate('expired', 'IP:127.0.0.1', -1);
	my %servers = (h2 => [ ' http2', 'here' ], h1 => [ '', 'here' ], few => [ ' http2', 'here', 'keepalive_requests 50;' ], client => [ ' http2', 'here', "ssl_verify_client on; ssl_client_certificate $dir/ca.crt;" ],
		named => [ '', 'elsewhere' ], expired => [ '', 'expired' ], stranger => [ '', 'stranger' ]);
	my $servers = '';
	for my $name (sort keys %servers)
	{
		my ($http2, $certificate, $more) = @{ $servers{$name} };
		my $port = $self->{port}{$name} = PostgreSQL::Test::Cluster::get_free_port();
		$servers .= "server { listen 127.0.0.1:$port ssl$http2; ssl_certificate $dir/$certificate.crt; ssl_certificate_key $dir/$certificate.key; " . ($more // '')
			. " location / { proxy_pass $url; proxy_http_version 1.1; proxy_read_timeout 600s; } }\n";
	}
	append_to_file("$dir/nginx.conf", "daemon off; master_process off; pid $dir/pid; error_log $dir/error.log warn;\n" . "events { worker_connections 4000; }\nhttp {\n"
		. join('', map { "${_}_temp_path $dir/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi))
		. "log_format test '\$server_port \$connection \$server_protocol \$status \$request_uri'; access_log $dir/access.log test;\n$servers}\n");
	# (it ends with the test, also where that is killed)
	$self->{run} = IPC::Run::start([ 'setpriv', '--pdeathsig', 'KILL', $ENV{ROMANCY_NGINX}, '-p', $dir, '-c', "$dir/nginx.conf", '-e', "$dir/error.log" ], '<', '/dev/null', '>', "$dir/out", '2>&1');
	for my $port (values %{ $self->{port} })
	{
		until (IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port))
		{
			die "nginx does not run: " . slurp_file("$dir/out") . $self->error_log unless $self->{run}->pumpable;
			usleep(20_000);
		}
	}
	return $self;
}

sub ca { return $_[0]{dir} . '/ca.crt' }
sub url { my ($self, $name) = @_; return "https://127.0.0.1:$self->{port}{$name}" }
sub error_log { return slurp_file($_[0]{dir} . '/error.log') }

# what was answered at a port, since forget(): [connection, protocol, status, path]
sub answered
{
	my ($self, $name) = @_;
	open my $fh, '<', "$self->{dir}/access.log" or return;
	my @lines = grep { /\n\z/ } <$fh>;
	$self->{lines} = @lines;
	return map { [ @$_[ 1 .. 4 ] ] } grep { $_->[0] == $self->{port}{$name} } map { [ split ' ' ] } @lines[ $self->{seen} .. $#lines ];
}
sub forget { my ($self) = @_; $self->answered('h2'); $self->{seen} = $self->{lines} // 0; return }
sub stop { my ($self) = @_; $self->{run}->kill_kill(grace => 1); return }

1;
