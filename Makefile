# romancy: building, installing, and the doors to test, demo and bench.
#
#   make && make install            build and install for the PostgreSQL that pg_config names
#   make test                       everything that is tested, on a throw-away cluster (test/run)
#   make test KINDS="regress tap" ONLY=pattern PG_CONFIG=/path/to/pg_config
#   make demo, demo-http, bench     examples/orders/demo.sh, examples/payments/demo.sh, bench/run
#   make soak SOAK_MINUTES=30       mixed load, kills, DDL, long transactions (test/soak)
#   make oracle                     20,000 cron expressions in twelve zones against cronsim
#   make fuzz FUZZ_SECONDS=1800     every function with odd arguments, everywhere (test/t/094_fuzz.pl)
#   make programs PROGRAMS_SECONDS=600   random workflows against a model (test/t/103_random_programs.pl)
#   make sanitize, make coverage    valgrind, ASan and UBSan; lcov (test/tools)
#   make indent, make check-indent  pgindent over src/ (where it can be had)

EXTENSION  = romancy
EXTVERSION = 0.1
MODULE_big = romancy

.DEFAULT_GOAL := all

# These goals start scripts that install what is missing, PGXS among it, and
# that build in a copy of the tree: they must work where there is no pg_config.
SCRIPTED = test demo demo-http bench soak oracle fuzz programs sanitize coverage indent check-indent
.PHONY: $(SCRIPTED)

export KINDS ONLY LEAVE

test:
	@PG_CONFIG='$(PG_CONFIG)' WERROR='$(or $(WERROR),1)' test/run
demo:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/with-deps examples/orders/demo.sh
demo-http:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/with-deps examples/payments/demo.sh
bench:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/with-deps bench/run
soak:
	@PG_CONFIG='$(PG_CONFIG)' SOAK_MINUTES='$(or $(SOAK_MINUTES),30)' test/soak
oracle:
	@PG_CONFIG='$(PG_CONFIG)' KINDS=tap ONLY=081_cron_oracle TAP_TIMEOUT=$(or $(TAP_TIMEOUT),7200) ROMANCY_CRON_EXPRESSIONS='$(or $(EXPRESSIONS),20000)' test/run
fuzz:
	@PG_CONFIG='$(PG_CONFIG)' KINDS=tap ONLY=^094_fuzz FUZZ_SEED='$(or $(FUZZ_SEED),$$(date +%s))' FUZZ_SECONDS='$(or $(FUZZ_SECONDS),1800)' TAP_TIMEOUT=$$(($(or $(FUZZ_SECONDS),1800) + 900)) test/run
programs:
	@PG_CONFIG='$(PG_CONFIG)' KINDS=tap ONLY=^103_random PROGRAMS_SEED='$(or $(PROGRAMS_SEED),$$(date +%s))' PROGRAMS_SECONDS='$(or $(PROGRAMS_SECONDS),600)' TAP_TIMEOUT=$$(($(or $(PROGRAMS_SECONDS),600) + 900)) test/run
sanitize:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/sanitize $(SANITIZERS)
coverage:
	@PG_CONFIG='$(PG_CONFIG)' test/tools/coverage
indent:
	@test/tools/indent
check-indent:
	@test/tools/indent --check

ifneq ($(if $(MAKECMDGOALS),$(filter-out $(SCRIPTED),$(MAKECMDGOALS)),all),)

# The library that sends HTTP requests, where libcurl is there (7.85 or newer; Debian: libcurl4-openssl-dev).
# It is one of its own, so that only its worker loads TLS; it needs epoll. with_http=no leaves it out.
with_http ?= $(shell test "$$(uname -s)" = Linux && curl-config --checkfor 7.85.0 >/dev/null 2>&1 && echo yes)

OBJS       = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
PARTS      = $(sort $(wildcard sql/parts/*.sql))
DATA_built = sql/romancy--$(EXTVERSION).sql
# Update scripts, and install scripts of older releases
DATA       = $(filter-out $(DATA_built),$(sort $(wildcard sql/romancy--*.sql)))

SHLIB_LINK  = $(EXTRA_LDFLAGS)
PG_CPPFLAGS = -I$(srcdir)/src
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
ifeq ($(WERROR),1)
PG_CFLAGS  += -Werror
endif
PG_CFLAGS  += $(EXTRA_CFLAGS)

# Inputs stand below test/, the expected output of both drivers in expected/.
# Without --outputdir the isolation driver would look for it in test/expected.
REGRESS        = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS   = --inputdir=test --load-extension=romancy
ISOLATION      = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=romancy
EXTRA_CLEAN    = results output_iso tmp_check regression.diffs regression.out

# Bitcode for the JIT needs clang and gains nothing here; with_llvm=yes on the
# command line turns it on. 'override', because PGXS assigns it later.
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

PG_CONFIG ?= pg_config
ifeq ($(PG_CONFIG),)
PG_CONFIG  = pg_config
endif
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq ($(PGXS),)
$(error '$(PG_CONFIG) --pgxs' gives nothing: install PostgreSQL's server headers (Debian: postgresql-server-dev-15), or name another one with PG_CONFIG=/path/to/pg_config)
endif

all: $(DATA_built)

include $(PGXS)

ifeq ($(with_http),yes)
HTTP_OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/http/curl/*.c)))
HTTP_LIB  = romancy_http$(DLSUFFIX)

all: $(HTTP_LIB)
install: install-http
uninstall: uninstall-http
clean: clean-http
.PHONY: install-http uninstall-http clean-http

$(HTTP_OBJS): override CPPFLAGS += $(shell curl-config --cflags)
$(HTTP_OBJS): $(wildcard src/http/*.h src/http/curl/*.h)
$(HTTP_LIB): $(HTTP_OBJS)
	$(LINK.shared) -o $@ $^ $(LDFLAGS) $(LDFLAGS_SL) $(shell curl-config --libs) $(EXTRA_LDFLAGS)

install-http: $(HTTP_LIB) installdirs
	$(INSTALL_SHLIB) $(HTTP_LIB) '$(DESTDIR)$(pkglibdir)/$(HTTP_LIB)'
uninstall-http:
	rm -f '$(DESTDIR)$(pkglibdir)/$(HTTP_LIB)'
clean-http:
	rm -f $(HTTP_LIB) $(HTTP_OBJS)
endif

# PostgreSQL may be built without dependency tracking, so any header rebuilds all
$(OBJS): $(wildcard src/*.h src/*/*.h)

$(DATA_built): $(PARTS)
	cat $^ > $@

endif
