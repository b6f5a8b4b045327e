#!/usr/bin/env bash
# deps.sh: what building and testing romancy needs, and its installation with apt.
# Source it and call deps_ensure, which sets and exports PG_CONFIG; or run it.
#
# With PG_CONFIG given, that server is used and only the rest is installed.

# The version that is installed where PG_CONFIG names nothing.
: "${ROMANCY_PG_VERSION:=15}"

deps_packages() {
	local v=$ROMANCY_PG_VERSION
	echo gcc libc6-dev make binutils perl libipc-run-perl python3 python3-psycopg
	# for romancy_http
	echo libcurl4-openssl-dev
	if [[ -z ${PG_CONFIG:-} ]]; then
		echo postgresql-$v postgresql-client-$v postgresql-server-dev-$v \
			postgresql-$v-pgtap postgresql-plperl-$v postgresql-plpython3-$v
	fi
}

deps_missing() {
	local p status
	for p in $(deps_packages); do
		status=$(dpkg-query -W -f='${Status}' "$p" 2>/dev/null) || status=
		[[ $status == *" installed" ]] || echo "$p"
	done
}

# apt_install PACKAGE...: as root; refreshes the lists only where it must
apt_install() {
	export DEBIAN_FRONTEND=noninteractive
	local opts=(-qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
	if ! apt-get "${opts[@]}" install -y --no-install-recommends "$@" </dev/null >/tmp/romancy-apt.$$ 2>&1; then
		apt-get "${opts[@]}" update </dev/null >&2 || true
		if ! apt-get "${opts[@]}" install -y --no-install-recommends "$@" </dev/null >/tmp/romancy-apt.$$ 2>&1; then
			tail -n 20 /tmp/romancy-apt.$$ >&2
			rm -f /tmp/romancy-apt.$$
			return 1
		fi
	fi
	rm -f /tmp/romancy-apt.$$
}

# deps_program PROGRAM PACKAGE: is it there, or can it be installed?
deps_program() {
	command -v "$1" >/dev/null || { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null && apt_install "$2"; }
}

deps_ensure() {
	local missing p
	if command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
		missing=$(deps_missing | xargs)
		if [[ -n $missing && $(id -u) != 0 ]]; then
			{
				echo "Some packages are missing. Please run, as root:"
				echo
				echo "    apt-get update && apt-get install -y --no-install-recommends $missing"
				echo
			} >&2
			return 1
		fi
		if [[ -n $missing ]]; then
			echo "installing: $missing" >&2
			# A first PostgreSQL package would create and start a cluster
			# of its own, which was not asked for.
			local conf=/etc/postgresql-common/createcluster.d/romancy-test.conf
			if [[ ! -e /etc/postgresql-common ]]; then
				mkdir -p "${conf%/*}"
				echo "create_main_cluster = false" >"$conf"
			fi
			# shellcheck disable=SC2086
			apt_install $missing || p=failed
			rm -f "$conf"
			if [[ ${p:-} == failed ]]; then
				echo "apt-get could not install: $missing" >&2
				return 1
			fi
		fi
		: "${PG_CONFIG:=/usr/lib/postgresql/$ROMANCY_PG_VERSION/bin/pg_config}"
	else
		# Not Debian: we can only say what is lacking
		: "${PG_CONFIG:=pg_config}"
		for p in gcc make nm perl prove; do
			command -v $p >/dev/null || missing+=" $p"
		done
		perl -MIPC::Run -e1 2>/dev/null || missing+=" perl-module:IPC::Run"
		if [[ -n ${missing:-} ]]; then
			echo "Please install, with the means of this system:$missing" >&2
			return 1
		fi
	fi
	if ! PG_CONFIG=$(command -v "$PG_CONFIG"); then
		echo "There is no such pg_config; name one with PG_CONFIG=/path/to/pg_config" >&2
		return 1
	fi
	export PG_CONFIG
	if [[ ! -f $("$PG_CONFIG" --pgxs) ]]; then
		echo "$PG_CONFIG has no PGXS: its server development package is missing" >&2
		return 1
	fi
}

# deps_node: Node.js, its driver pg and the compiler of TypeScript, for sdk/typescript, which only
# TAP tests run; sets and exports NODE_PATH. npm puts them into a cache that stays, outside of the tree.
deps_node() {
	if ! command -v node >/dev/null; then
		if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
			echo "installing: nodejs node-pg" >&2
			apt_install nodejs node-pg || return 1
			export NODE_PATH=/usr/share/nodejs
		else
			echo "Please install Node.js (Debian: apt-get install nodejs node-pg)" >&2
			return 1
		fi
	fi
	if ! command -v npm >/dev/null; then
		# the test of sdk/typescript says that it lacks the compiler
		node -e 'require("pg")'
		return
	fi
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/romancy
	# the user that tests run as has to reach it
	[[ $(id -u) != 0 ]] || cache=/var/cache/romancy
	export NODE_PATH=$cache/node_modules
	# (with npm's cache, from which the tests install the package into an empty project)
	export ROMANCY_NPM_CACHE=$cache/npm
	! { [[ -f $cache/npm/ready ]] && node -e 'require("pg"); require("typescript"); require("eslint")' 2>/dev/null; } || return 0
	mkdir -p "$cache"
	echo "installing: npm's pg, typescript and eslint, into $cache" >&2
	if ! npm install --prefix "$cache" --cache "$cache/npm" --no-audit --no-fund --ignore-scripts --loglevel=error \
		pg@8 typescript@5 @types/node@20 @types/pg@8 eslint@9 typescript-eslint@8 </dev/null >&2; then
		echo "npm could not install pg, typescript and eslint" >&2
		return 1
	fi
	# (what is installed already is not asked for, and so not in npm's cache)
	local try=$cache/npm-try
	if mkdir -p "$try" && npm install --prefix "$try" --cache "$cache/npm" --no-audit --no-fund --ignore-scripts --loglevel=error pg@8 </dev/null >&2; then
		touch "$cache/npm/ready"
	fi
	rm -rf "$try"
	chmod -R a+rX "$cache"
	node -e 'require("pg")'
}

# deps_python: what the tests of the package of sdk/python need: a venv with the tools that build and check it, and the wheels that it is installed
# with into an empty environment; sets and exports ROMANCY_PYTHON_TOOLS, a folder with both.
deps_python() {
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/romancy/python
	[[ $(id -u) != 0 ]] || cache=/var/cache/romancy/python
	export ROMANCY_PYTHON_TOOLS=$cache
	[[ ! -f $cache/ready ]] || return 0
	if ! /usr/bin/python3 -c 'import ensurepip' 2>/dev/null; then
		[[ $(id -u) == 0 ]] && command -v apt-get >/dev/null && apt_install python3-venv || return 1
	fi
	echo "installing: tools for Python packages, into $cache" >&2
	mkdir -p "$cache"
	# (no settings of pip's that are for another Python)
	(
		/usr/bin/python3 -m venv "$cache/venv" &&
			"$cache/venv/bin/pip" install -q --disable-pip-version-check 'setuptools>=61' wheel mypy ruff 'psycopg>=3.1' &&
			"$cache/venv/bin/pip" download -q --disable-pip-version-check --no-deps -d "$cache/wheels" 'psycopg>=3.1' 'typing_extensions>=4.6' &&
			touch "$cache/ready"
	) </dev/null >&2 || return 1
	chmod -R a+rX "$cache"
}

# deps_go: the modules of sdk/go, compiled, where Go 1.21 or newer is there (Debian 12's is older); sets and exports
# GOMODCACHE and GOCACHE.
deps_go() {
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/romancy
	[[ $(id -u) != 0 ]] || cache=/var/cache/romancy
	command -v go >/dev/null || return 1
	mkdir -p "$cache/go" "$cache/go-build"
	export GOMODCACHE=$cache/go GOCACHE=$cache/go-build
	(cd "${BASH_SOURCE[0]%/*}/../../sdk/go" && export GOTOOLCHAIN=local GOFLAGS=-buildvcs=false &&
		go vet ./... </dev/null >&2 && go test -c -o /dev/null . </dev/null >&2 &&
		# the go.mod files of all that it depends on, which a module that uses it asks for
		go mod graph </dev/null >/dev/null) || return 1
	# the linter, of a version that the compiler allows
	[[ -x $cache/go-bin/staticcheck ]] || (export GOTOOLCHAIN=local GOBIN=$cache/go-bin && go install honnef.co/go/tools/cmd/staticcheck@latest </dev/null >&2) || true
	export ROMANCY_GO_TOOLS=$cache/go-bin
	chmod -R a+rX "$cache/go" "$cache/go-bin" 2>/dev/null || true
	chmod -R a+rwX "$cache/go-build"
}

# deps_pool: PgBouncer, which only TAP tests run; sets and exports ROMANCY_PGBOUNCER, a folder with its program. Unpacked
# and not installed, for its package starts a service; of a newer suite, for 1.18, which Debian 12 has, dies of
# some cancel requests (https://github.com/pgbouncer/pgbouncer/issues/822).
deps_pool() {
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/romancy/pool p
	[[ $(id -u) != 0 ]] || cache=/var/cache/romancy/pool
	export ROMANCY_PGBOUNCER=$cache/usr/sbin
	! "$ROMANCY_PGBOUNCER/pgbouncer" --version >/dev/null 2>&1 || return 0
	if p=$(PATH=$PATH:/usr/sbin command -v pgbouncer) && [[ $("$p" --version) != *" 1."1[0-8].* ]]; then
		ROMANCY_PGBOUNCER=${p%/*}
		return 0
	fi
	command -v patchelf >/dev/null || [[ $(id -u) != 0 ]] || apt_install patchelf
	echo "unpacking: pgbouncer, into $cache" >&2
	mkdir -p "$(dirname "$cache")"
	# one at a time: another run may need it as well
	(
		flock 9
		"$ROMANCY_PGBOUNCER/pgbouncer" --version >/dev/null 2>&1 ||
			timeout 300 "$(dirname "${BASH_SOURCE[0]}")/pg-unpacked" pool "$cache" >&2
	) 9>"$cache.lock"
}

# deps_faketime: the library that sets the clock of one program, which only TAP tests and the soak use
deps_faketime() {
	compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null && apt_install libfaketime; }
}

# deps_nginx: nginx, which only TAP tests run; sets and exports ROMANCY_NGINX, its program. Unpacked and not installed, for its package starts a service.
deps_nginx() {
	local cache=${XDG_CACHE_HOME:-$HOME/.cache}/romancy/nginx
	[[ $(id -u) != 0 ]] || cache=/var/cache/romancy/nginx
	export ROMANCY_NGINX=$cache/usr/sbin/nginx
	! "$ROMANCY_NGINX" -v 2>/dev/null || return 0
	if ROMANCY_NGINX=$(PATH=$PATH:/usr/sbin command -v nginx); then
		return 0
	fi
	ROMANCY_NGINX=$cache/usr/sbin/nginx
	command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
	mkdir -p "$(dirname "$cache")"
	# one at a time: another run may need it as well
	(
		flock 9
		! "$ROMANCY_NGINX" -v 2>/dev/null || exit 0
		unpack_nginx "$cache"
	) 9>"$cache.lock"
}

# unpack_nginx FOLDER: deps_nginx's, alone
unpack_nginx() {
	local cache=$1 try
	echo "unpacking: nginx, into $cache" >&2
	try=$(mktemp -d)
	chmod 755 "$try"
	# (the lists may be old, or none)
	(cd "$try" && { timeout 300 apt-get -qq -o APT::Sandbox::User="$(id -un)" download nginx || { [[ $(id -u) == 0 ]] && timeout 300 apt-get -qq update && timeout 300 apt-get -qq -o APT::Sandbox::User="$(id -un)" download nginx; }; }) </dev/null >&2 &&
		mkdir -p "$cache" && dpkg -x "$try"/nginx_*.deb "$cache" && chmod -R a+rX "$cache"
	rm -rf "$try"
	[[ -x $ROMANCY_NGINX ]] || return 1
	"$ROMANCY_NGINX" -v 2>/dev/null || { [[ $(id -u) == 0 ]] && apt_install libpcre2-8-0 libssl3; }
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
	set -euo pipefail
	deps_ensure
	echo "$PG_CONFIG"
fi
