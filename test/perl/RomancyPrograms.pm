# RomancyPrograms: workflows made at random from a small grammar, and a model that says how each ends. For
# test/t/103_random_programs.pl.
#
# A program is a list of statements, each a hash: {do => kind, ...}. plpgsql() writes it as a handler, and run() is the model:
# it walks the same list. Steps of which it cannot know whether they ran (spawned, and never waited for) are in "may".
package RomancyPrograms;

use strict;
use warnings;
use Exporter 'import';
use JSON::PP ();

our @EXPORT_OK = qw(make_program programs_sql model);

my $label;		# of the program that is being made: each step of it and of its children has a number
my @children;
my $parallel_undo;	# may parallel steps have compensations? Not beside compensate()

sub chance { return rand() < $_[0] }
sub pick { return $_[ int(rand(@_)) ] }

# A step: its number, its activity, and how many of its attempts fail (9: all)
sub step
{
	my ($parallel) = @_;
	my $undone = chance(0.4) && (!$parallel || $parallel_undo);
	return { k => ++$label, act => ($undone ? pick(qw(undone undone_slow)) : pick(qw(plain plain plain plain_slow outside))),
		f => chance(0.7) ? 0 : pick(1, 1, 2, 9) };
}

sub statements
{
	my ($depth, $child) = @_;
	return map { statement($depth, $child) } 1 .. 1 + int(rand($depth > 1 ? 3 : 4));
}

sub statement
{
	my ($depth, $child) = @_;
	my $kind = pick(qw(step step step step block fan fan map child child sleep receive raise loop any register compensate value));

	$kind = 'step' if $kind eq 'block' && $depth > 2 || $kind eq 'child' && $child > 1 || $kind eq 'receive' && $child > 0 ||
		$kind eq 'compensate' && $parallel_undo || $kind eq 'raise' && chance(0.5);
	return { do => 'step', step => step(0) } if $kind eq 'step';
	return { do => 'loop', steps => [ map { step(0) } 1 .. 2 + int(rand(3)) ] } if $kind eq 'loop';
	return { do => 'block', body => [ statements($depth + 1, $child) ], caught => [ chance(0.5) ? statements($depth + 1, $child) : () ] } if $kind eq 'block';
	if ($kind eq 'map')
	{
		my @steps = one_fails(map { step(1) } 1 .. 1 + int(rand(5)));
		$_->{act} = $steps[0]{act} for @steps;
		return { do => 'map', steps => \@steps };
	}
	return { do => 'any', step => step(1) } if $kind eq 'any';
	return { do => $kind, k => ++$label } if $kind eq 'register' || $kind eq 'raise';
	if ($kind eq 'fan')
	{
		my @parts = one_fails(map { step(1) } 1 .. 1 + int(rand(4)));
		push @parts, child($depth, $child) if $child < 2 && chance(0.3);
		return { do => 'fan', parts => \@parts, meanwhile => [ chance(0.5) ? statements($depth + 1, $child) : () ], all => chance(0.5), number => ++$label };
	}
	return { do => 'child', %{ child($depth, $child) } } if $kind eq 'child';
	return { do => $kind };
}

# Of steps that are waited for together only one fails for good: which error is raised first is not known
sub one_fails
{
	my $failed = 0;
	for my $step (@_) { $step->{f} = 1 if $step->{f} == 9 && $failed++ }
	return @_;
}

sub child
{
	my ($depth, $child) = @_;
	my $program = { body => [ statements($depth + 1, $child + 1) ], number => ++$label };
	push @children, $program;
	return { program => $program };
}

# make_program($number): {number, body, children, labels}
sub make_program
{
	my ($number) = @_;
	$label = 0;
	@children = ();
	$parallel_undo = chance(0.6);
	my $body = [ statements(0, 0) ];
	push @$body, statements(0, 0) if $label < 3;
	return { number => $number, body => $body, children => [@children], name => "p$number" };
}

# ---------------------------------------------------------------- as handlers

sub argument { return sprintf(q{$1 || '{"k": %d, "f": %d}'}, $_[0]{k}, $_[0]{f}) }
my $retry = q{retry => '{"max_attempts": 3, "initial_interval": "1ms", "jitter": 0}'};

sub code
{
	my ($name, $statement) = @_;
	my $kind = $statement->{do};
	my $acc = 'acc := acc || jsonb_build_array';

	return "$acc(romancy.activity('$statement->{step}{act}', " . argument($statement->{step}) . ", $retry));" if $kind eq 'step';
	return join("\n", map { code($name, { do => 'step', step => $_ }) } @{ $statement->{steps} }) if $kind eq 'loop';
	return "BEGIN\n" . codes($name, $statement->{body}) . "\nEXCEPTION WHEN OTHERS THEN\nacc := acc || to_jsonb(sqlerrm);\n" . codes($name, $statement->{caught}) . "\nEND;"
		if $kind eq 'block';
	return "acc := acc || romancy.map('$statement->{steps}[0]{act}', jsonb_build_array(" . join(', ', map { argument($_) } @{ $statement->{steps} }) . '));' if $kind eq 'map';
	return "SELECT a.result INTO r FROM romancy.await_any(ARRAY[romancy.spawn('$statement->{step}{act}', " . argument($statement->{step}) . ", $retry), romancy.spawn_timer('1 day')]) a;\n$acc(r);"
		if $kind eq 'any';
	return "PERFORM romancy.register_compensation('undo', \$1 || '{\"k\": $statement->{k}}');" if $kind eq 'register';
	return "RAISE EXCEPTION 'raise $statement->{k}';" if $kind eq 'raise';
	return "$acc(romancy.call_workflow('${name}_$statement->{program}{number}', \$1));" if $kind eq 'child';
	return "PERFORM romancy.sleep('2 ms');" if $kind eq 'sleep';
	return "$acc((romancy.receive('ch')).data);" if $kind eq 'receive';
	return 'acc := acc || to_jsonb(romancy.compensate());' if $kind eq 'compensate';
	return "PERFORM romancy.set_value('v', acc);\n$acc(romancy.workflow_random() < 2);" if $kind eq 'value';
	die $kind if $kind ne 'fan';

	my $handles = "h$statement->{number}";
	my @parts = @{ $statement->{parts} };
	my @code = ("$handles := '{}';");
	push @code, map { "$handles := $handles || " . ($_->{program} ? "romancy.spawn_workflow('${name}_$_->{program}{number}', \$1);" : "romancy.spawn('$_->{act}', " . argument($_) . ", $retry);") } @parts;
	push @code, codes($name, $statement->{meanwhile});
	push @code, $statement->{all} ? "acc := acc || to_jsonb(romancy.await_all($handles));" : map { "$acc(romancy.await(${handles}[$_]));" } 1 .. @parts;
	return join("\n", @code);
}
sub codes { my ($name, $list) = @_; return join("\n", map({ code($name, $_) } @$list), @$list ? () : 'NULL;') }

sub handles
{
	return map { ($_->{do} eq 'fan' ? $_->{number} : (), handles($_->{body}), handles($_->{caught}), handles($_->{meanwhile})) } @{ $_[0] // [] };
}

sub handler
{
	my ($name, $name_of_all, $body) = @_;
	my $handles = join('', map { "h$_ text[]; " } handles($body));
	return "CREATE FUNCTION $name(jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$\nDECLARE acc jsonb := '[]'; r jsonb; $handles\nBEGIN\n" . codes($name_of_all, $body) . "\nRETURN acc;\nEND \$\$;\n";
}

sub programs_sql
{
	my ($program) = @_;
	return join('', map({ handler("$program->{name}_$_->{number}", $program->{name}, $_->{body}) } @{ $program->{children} }), handler($program->{name}, $program->{name}, $program->{body}));
}

# ---------------------------------------------------------------- the model

my ($done, $may, $undone, $received);

# The steps of a list that may or may not have run; of a child, all of it
sub may { $may->{$_} = 1 for @_; return }
sub all_of
{
	return map { my $s = $_; ($s->{k} // (), map({ $_->{k} } grep { $_ } $s->{step}, @{ $s->{steps} // [] }), map({ $_->{program} ? all_of($_->{program}{body}) : $_->{k} } @{ $s->{parts} // [] }),
		$s->{program} ? all_of($s->{program}{body}) : (), map { all_of($s->{$_}) } qw(body caught meanwhile)) } @{ $_[0] // [] };
}

# Runs a step: gives its result, or dies with its error
sub act
{
	my ($step, $registered, $parallel) = @_;
	die "step $step->{k}\n" if $step->{f} == 9;
	$done->{ $step->{k} } = $step->{f} + 1;
	push @$registered, [ $step->{k}, $parallel ] if $step->{act} =~ /^undone/;
	return 0 + $step->{k};
}

sub undo
{
	my ($registered) = @_;
	my $n = @$registered;
	push @$undone, reverse splice(@$registered);
	return $n;
}

# Runs a program: {status, output} or {status, error}
sub instance
{
	my ($body) = @_;
	my @registered;
	my $acc = [];
	my $live = {};
	my $ok = eval { walk($body, $acc, \@registered, $live); 1 };
	my $error = $@;

	may(map { @{ $live->{$_} } } keys %$live);
	return { status => 'completed', output => $acc } if $ok;
	die $error if ref $error || $error !~ /^(?:step|raise) \d+$/;
	undo(\@registered);
	chomp $error;
	return { status => 'failed', error => $error };
}

# A child that is waited for: its output, or its error raised
sub outcome
{
	my ($program) = @_;
	my $end = instance($program->{body});
	die "$end->{error}\n" if $end->{status} eq 'failed';
	return $end->{output};
}

sub walk
{
	my ($body, $acc, $registered, $live) = @_;

	for my $s (@$body)
	{
		my $kind = $s->{do};
		if ($kind eq 'step') { push @$acc, act($s->{step}, $registered, 0) }
		elsif ($kind eq 'loop') { push @$acc, act($_, $registered, 0) for @{ $s->{steps} } }
		elsif ($kind eq 'any') { push @$acc, act($s->{step}, $registered, 1) }
		elsif ($kind eq 'block')
		{
			next if eval { walk($s->{body}, $acc, $registered, $live); 1 };
			my $error = $@;
			die $error if ref $error || $error !~ /^(?:step|raise) \d+$/;
			chomp $error;
			push @$acc, $error;
			walk($s->{caught}, $acc, $registered, $live);
		}
		elsif ($kind eq 'map' || $kind eq 'fan') { push @$acc, together($s, $acc, $registered, $live) }
		elsif ($kind eq 'register') { push @$registered, [ $s->{k}, 0 ] }
		elsif ($kind eq 'raise') { die "raise $s->{k}\n" }
		elsif ($kind eq 'child') { push @$acc, outcome($s->{program}) }
		elsif ($kind eq 'receive') { push @$acc, 0 + ++$$received }
		elsif ($kind eq 'compensate') { push @$acc, undo($registered) }
		elsif ($kind eq 'value') { push @$acc, JSON::PP::true() }
		elsif ($kind ne 'sleep') { die [$kind] }
	}
	return;
}

# Steps and children at the same time: their results, in order
sub together
{
	my ($s, $acc, $registered, $live) = @_;
	my @parts = @{ $s->{parts} // $s->{steps} };
	my $key = "$s";

	$live->{$key} = [ map { $_->{program} ? all_of($_->{program}{body}) : $_->{k} } @parts ];
	walk($s->{meanwhile} // [], $acc, $registered, $live);

	# an error ends the wait: what comes after it, or beside it, may be under way
	my @results;
	my $fails = (grep { ($_->{f} // 0) == 9 || $_->{program} } @parts) ? 1 : 0;
	my $ordered = $s->{do} eq 'fan' && !$s->{all};
	for my $part (@parts)
	{
		my $result = eval { $part->{program} ? outcome($part->{program}) : act($part, $registered, 1) };
		my $error = $@;
		if ($error eq '')
		{
			push @results, $result;
			push @$acc, $result if $ordered;
			next;
		}
		die $error;
	}
	delete $live->{$key};
	return $ordered ? () : @results;
}

# model($program): {status, output or error, done => {k => attempts}, undone => [[k, parallel], ...], may => {k => 1}, received}
sub model
{
	my ($program) = @_;
	my $n = 0;
	($done, $may, $undone, $received) = ({}, {}, [], \$n);
	my $end = instance($program->{body});
	return { %$end, done => $done, may => $may, undone => $undone, received => $n };
}

1;
