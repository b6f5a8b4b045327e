# lib.sh: the stage, to be sourced. A server does not run as root and nothing is
# to be written below /usr or into the working tree; so the tree is copied into
# a private folder of an unprivileged user, and built and installed there.

ROMANCY_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=deps.sh
source "$ROMANCY_ROOT/test/tools/deps.sh"

# The user that servers run as, where we are root
stage_user() {
	if id -u postgres >/dev/null 2>&1; then
		echo postgres
	else
		id -u romancy-test >/dev/null 2>&1 ||
			useradd --system --user-group --home-dir /nonexistent --shell /bin/sh romancy-test
		echo romancy-test
	fi
}

# A folder that the user can reach (root's TMPDIR may be private) and whose name
# is short enough for a socket in it
stage_tmp() {
	local d=${TMPDIR:-/tmp} user=$1
	if [[ ${#d} -gt 60 ]] ||
		{ [[ -n $user ]] && ! setpriv --reuid="$user" --regid="$user" --init-groups test -x "$d"; }; then
		d=/tmp
	fi
	mktemp -d "$d/romancy.XXXXXX"
}

# stage_own_server WORK: a server that finds extensions in its own folders alone (no Debian
# patch, older than 18) is copied into the stage, where it finds what build_stage installs.
# Sets PG_CONFIG to the copy's. Nothing is copied where the server's folders belong to
# the system (below /usr), and where its other folders are not below that of its programs.
stage_own_server() {
	local work=$1 prefix d
	[[ $(pg_major) -lt 18 ]] || return 0
	! grep -q extension_destdir "$("$PG_CONFIG" --bindir)/postgres" || return 0
	prefix=$(dirname "$("$PG_CONFIG" --bindir)")
	for d in "$prefix/bin" "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)" "$("$PG_CONFIG" --includedir-server)"; do
		case $d in
		"$prefix"/*) [[ $prefix != /usr ]] || return 0 ;;
		*) return 0 ;;
		esac
	done
	mkdir "$work/server"
	for d in bin lib share include; do
		cp -a "$prefix/$d" "$work/server/"
	done
	# what an earlier 'make install' left there is not what is tested
	rm -f "$work"/server/lib/postgresql/romancy.so "$work"/server/lib/postgresql/romancy_http.so "$work"/server/share/postgresql/extension/romancy*
	export PG_CONFIG=$work/server/bin/pg_config
}

# enter_stage SCRIPT ARG...
# Returns at once inside a stage. Outside, makes one, runs SCRIPT (a path from
# the tree's root) in it with the same arguments, and exits with its exit code.
# Copies the files and folders named by ROMANCY_SAVE back afterwards.
enter_stage() {
	[[ -z ${ROMANCY_WORK:-} ]] || return 0
	deps_ensure || exit 3

	local script=$1 user= work rc=0 f v
	local -a drop=()
	shift
	if [[ $(id -u) == 0 ]]; then
		user=$(stage_user)
		drop=(setpriv --reuid="$user" --regid="$user" --init-groups)
	fi
	work=$(stage_tmp "$user")
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	trap 'exit 130' INT TERM HUP
	chmod 755 "$work"
	mkdir "$work/tree" "$work/log" "$work/dest"
	tar -C "$ROMANCY_ROOT" --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude='*.bc' \
		--exclude='*.gcno' --exclude='*.gcda' --exclude=./results --exclude=./tmp_check \
		--exclude=./output_iso --exclude="./sql/romancy--$(stage_version).sql" -cf - . |
		tar -C "$work/tree" --no-same-owner -xf -
	chmod -R u+w "$work/tree"
	stage_own_server "$work"
	if [[ -n $user ]]; then
		chown -R "$user:" "$work"
	fi

	# No libpq settings of the caller's, and no jobserver of the make that called us
	for v in "${!PG@}"; do
		case $v in PG_*) ;; *) unset "$v" ;; esac
	done
	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

	# A process group of its own, waited for, so that a signal to us ends
	# all of it, and only then is the folder removed
	set -m
	(
		cd "$work/tree"
		export ROMANCY_WORK=$work ROMANCY_DESTDIR=$work/dest ROMANCY_ORIGIN=$ROMANCY_ROOT
		[[ ! -d $work/server ]] || ROMANCY_DESTDIR=
		export HOME=$work USER=${user:-$(id -un)} TMPDIR=${work%/*}
		export LANG=C.UTF-8 LC_ALL=C.UTF-8 LOGNAME=${user:-$(id -un)}
		exec "${drop[@]}" test/tools/reaper "./$script" "$@"
	) </dev/null &
	local child=$!
	set +m
	# shellcheck disable=SC2064
	trap "kill -TERM -- -$child 2>/dev/null; wait $child; exit 130" INT TERM HUP
	wait "$child" || rc=$?

	for f in ${ROMANCY_SAVE:-}; do
		[[ -e $work/tree/$f ]] || continue
		mkdir -p "$ROMANCY_ROOT/$(dirname "$f")"
		cp -r --no-preserve=ownership -T "$work/tree/$f" "$ROMANCY_ROOT/$f"
		[[ -z $user ]] || chown -R --reference="$ROMANCY_ROOT/Makefile" "$ROMANCY_ROOT/$f"
	done
	exit "$rc"
}

stage_version() {
	sed -n 's/^EXTVERSION *= *//p' "$ROMANCY_ROOT/Makefile"
}

# build_stage: builds the tree of the stage and installs it into its DESTDIR, once
build_stage() {
	[[ ! -f $ROMANCY_WORK/built ]] || return 0
	local flags=${EXTRA_CFLAGS:-} inc
	# A server unpacked from a newer suite was configured for a libc that
	# has strlcpy; ours may not declare it, the server's has it at run time.
	inc=$("$PG_CONFIG" --includedir-server)
	if grep -q '^#define HAVE_DECL_STRLCPY 1' "$inc/pg_config.h" &&
		! echo 'int main(void) { return (int) strlcpy(0, "", 0); }' |
		gcc -include string.h -Werror=implicit-function-declaration -x c -c -o /dev/null - 2>/dev/null; then
		flags+=" -include $ROMANCY_WORK/tree/test/tools/strlcpy.h"
	fi
	make -C "$ROMANCY_WORK/tree" -s -j"$(nproc)" PG_CONFIG="$PG_CONFIG" WERROR="${WERROR:-}" \
		EXTRA_CFLAGS="$flags" EXTRA_LDFLAGS="${EXTRA_LDFLAGS:-}" DESTDIR="$ROMANCY_DESTDIR" \
		install >"$ROMANCY_WORK/log/build.log" 2>&1 || {
		grep -v '^/usr/bin/\(mkdir\|install\)' "$ROMANCY_WORK/log/build.log" | head -n 60 >&2
		echo "the build failed" >&2
		return 1
	}
	touch "$ROMANCY_WORK/built"
}

pg_major() {
	"$PG_CONFIG" --version | sed -E 's/[^0-9]*([0-9]+).*/\1/'
}

# stage_conf: the lines of postgresql.conf that let a server find what
# build_stage installed, without any of it being in the server's own folders
stage_conf() {
	local lib share
	lib=$("$PG_CONFIG" --pkglibdir) share=$("$PG_CONFIG" --sharedir)
	if [[ $(pg_major) -ge 18 ]]; then
		echo "extension_control_path = '$ROMANCY_DESTDIR$share:\$system'"
	elif grep -q extension_destdir "$("$PG_CONFIG" --bindir)/postgres"; then
		echo "extension_destdir = '$ROMANCY_DESTDIR'"		# Debian's patch
	elif [[ -n $ROMANCY_DESTDIR && ! -f $share/extension/romancy.control ]]; then
		echo "This server finds extensions only in $share/extension:" \
			"run 'make install PG_CONFIG=$PG_CONFIG' first." >&2
		return 1
	else
		return 0	# build_stage installed it there (stage_own_server), or it was installed before
	fi
	echo "dynamic_library_path = '$ROMANCY_DESTDIR$lib:\$libdir'"
}

# have_language plperl|plpython3u: can this server load it?
have_language() {
	local so=$1
	[[ $so != plpython3u ]] || so=plpython3
	[[ -f $("$PG_CONFIG" --sharedir)/extension/$1.control && -f $("$PG_CONFIG" --pkglibdir)/$so.so ]]
}
