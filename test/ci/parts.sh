# parts.sh: the parts of a run of continuous integration and the sum over them; to be sourced.
#
# A part is a command. Its result is its last line "N passed, N failed", or, where it has none,
# its exit code. Exit code 77 is "not run", for the reason that the part's last line names.
# The summary repeats the lines that a part lists below "== skipped" (test/run).

# All parts together end within this time (s); what still runs then is ended, and has failed
CI_SECONDS=${CI_SECONDS:-4300}

parts_passed=0 parts_failed=0 parts_notes=() parts_skipped=()
parts_dir=$(mktemp -d)
trap 'for pid in "$parts_dir"/*.pid; do [[ ! -s $pid ]] || kill "$(cat "$pid")" 2>/dev/null; done; rm -rf "$parts_dir"' EXIT

# seconds_left: until CI_SECONDS are over
seconds_left() {
	echo $((CI_SECONDS > SECONDS ? CI_SECONDS - SECONDS : 0))
}

# part NAME LIMIT CMD...: runs CMD, for at most LIMIT seconds, and counts its result
part() {
	local name=$1 limit=$2 rc=0 start=$SECONDS
	shift 2
	[[ $limit -le $(seconds_left) ]] || limit=$(seconds_left)
	echo "######## $name"
	timeout --kill-after=30 $((limit > 10 ? limit : 10)) "$@" 2>&1 | tee "$parts_dir/log" || rc=$?
	part_count "$name" "$rc" "$((SECONDS - start)) s"
}

# part_beside NAME LIMIT CMD...: begins CMD beside the parts that come, with the lowest priority; part_join counts it
part_beside() {
	local name=$1 limit=$2
	shift 2
	(
		start=$SECONDS rc=0
		nice -n 19 timeout --kill-after=30 "$limit" "$@" >"$parts_dir/$name.log" 2>&1 &
		# shellcheck disable=SC2064
		trap "kill $! 2>/dev/null; exit 143" TERM
		wait $! || rc=$?
		echo "$rc $((SECONDS - start))" >"$parts_dir/$name.rc"
	) &
	echo $! >"$parts_dir/$name.pid"
}

# part_join NAME: waits for it, shows its output and counts its result
part_join() {
	local name=$1 rc seconds
	echo "######## $name"
	wait "$(cat "$parts_dir/$name.pid")" || true
	rm "$parts_dir/$name.pid"
	mv "$parts_dir/$name.log" "$parts_dir/log"
	cat "$parts_dir/log"
	read -r rc seconds <"$parts_dir/$name.rc"
	part_count "$name" "$rc" "$seconds s, beside others"
}

# part_if_time LEAST NAME LIMIT CMD...: part, if at least LEAST seconds are left; else the summary says that it was not run
part_if_time() {
	local least=$1
	shift
	if [[ $(seconds_left) -ge $least ]]; then
		part "$@"
	else
		parts_skipped+=("$1: no time left")
	fi
}

# part_count NAME RC TIME: adds the result that the log tells
part_count() {
	local name=$1 rc=$2 time=$3 last ok bad line
	# (make may have a word after it)
	last=$(tail -n 5 "$parts_dir/log" | grep -E '^[0-9]+ passed, [0-9]+ failed$' | tail -n 1 || true)
	while read -r line; do
		[[ $line == nothing ]] || parts_skipped+=("$name: $line")
	done < <(awk '/^[0-9]+ passed, [0-9]+ failed$/ { on = 0 } on { print } /^== skipped$/ { on = 1 }' "$parts_dir/log")
	if [[ $rc == 77 ]]; then
		parts_skipped+=("$name: $(tail -n 1 "$parts_dir/log")")
		return
	elif [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		ok=${BASH_REMATCH[1]} bad=${BASH_REMATCH[2]}
		# An exit code without a failed test must not be lost
		[[ $rc == 0 || $bad != 0 ]] || bad=1 last+=", but exit code $rc"
	elif [[ $rc == 0 ]]; then
		ok=1 bad=0 last=clean
	else
		ok=0 bad=1 last="FAILED (exit code $rc)"
	fi
	parts_passed=$((parts_passed + ok)) parts_failed=$((parts_failed + bad))
	parts_notes+=("$name: $last ($time)")
}

# parts_summary: the last lines of the run; its exit code is the run's
parts_summary() {
	echo "######## skipped"
	printf '%s\n' "${parts_skipped[@]:-nothing}"
	echo "######## summary, after ${SECONDS} s"
	printf '%s\n' "${parts_notes[@]}"
	echo "$parts_passed passed, $parts_failed failed"
	[[ $parts_failed == 0 && $parts_passed != 0 ]]
}
