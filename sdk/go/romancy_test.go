package romancy

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A sign-up service as a new user would write it, in test sessions and with a real worker that is killed.

type mail struct{ To, Template string }

type program struct {
	*App
	mails         []mail
	version       int
	createAccount Activity[string, int]
	sendMail      Activity[mail, any]
	fails         Activity[string, any]
	signup        Workflow[string, string]
	fanOut        Workflow[int, []int]
	race          Workflow[any, string]
	order         Workflow[string, map[string]string]
	changed       Workflow[any, any]
}

func newProgram(t testing.TB) *program {
	ctx := context.Background()
	app, err := New(ctx, os.Getenv("ROMANCY_TEST_URL"), Options{Queue: "go_signup"})
	if err != nil {
		t.Fatal(err)
	}
	p := &program{App: app, version: 1}
	p.createAccount = NewActivity(app, "go_create_account", func(_ context.Context, email string) (int, error) { return len(email), nil })
	p.sendMail = NewActivity(app, "go_send_mail", func(_ context.Context, m mail) (any, error) {
		p.mails = append(p.mails, m)
		if m.To == "flaky@x" && len(p.mails) < 3 {
			return nil, errors.New("no route")
		}
		return nil, nil
	}, Retry(map[string]any{"max_attempts": 3, "initial_interval": "10 ms"}))
	p.fails = NewActivity(app, "go_fails", func(_ context.Context, code string) (any, error) { return nil, Fail(code, "card declined") })
	p.signup = NewWorkflow(app, "go_signup", func(w *W, email string) (string, error) {
		account, err := p.createAccount.Call(w, email)
		if err != nil {
			return "", err
		}
		if _, err := p.sendMail.Call(w, mail{email, "confirm"}); err != nil {
			return "", err
		}
		if _, err := Receive[any](w, "confirmed", 30*24*time.Hour); errors.Is(err, ErrTimeout) {
			return "expired", nil
		} else if err != nil {
			return "", err
		}
		_, err = p.sendMail.Call(w, mail{email, "welcome"})
		return "account " + strconv.Itoa(account), err
	})
	p.fanOut = NewWorkflow(app, "go_fan_out", func(w *W, n int) ([]int, error) {
		handles := make([]Handle[int], n)
		for i := range handles {
			handles[i] = p.createAccount.Spawn(w, strings.Repeat("x", i))
		}
		results, err := All(w, handles)
		w.SetValue("results", results)
		w.Progress(int64(n), int64(n), "done")
		return results, err
	})
	p.race = NewWorkflow(app, "go_race", func(w *W, _ any) (string, error) {
		timer, message := w.SpawnTimer(24*time.Hour), SpawnReceive[int](w, "m")
		first, err := Any(w, 0, timer, message)
		if err != nil {
			return "", err
		}
		got, err := Await(w, message)
		if err != nil || first != 1 {
			return "timer", err
		}
		if _, err = Any(w, time.Second, timer); errors.Is(err, ErrTimeout) {
			return "message " + strconv.Itoa(got.Data) + ", then nothing", nil
		}
		return "both", err
	})
	p.order = NewWorkflow(app, "go_order", func(w *W, code string) (map[string]string, error) {
		at, id := w.Now(), w.UUID()
		w.Sleep(time.Second)
		_, err := p.fails.Call(w, code)
		var e *Error
		if !errors.As(err, &e) {
			return nil, errors.New("no error")
		}
		kid, err := Child[string](w, "go_signup", "kid@x")
		w.Publish("orders", code)
		return map[string]string{"code": e.Code, "kid": kid, "at": at.String(), "id": id}, err
	})
	p.changed = NewWorkflow(app, "go_changed", func(w *W, _ any) (any, error) {
		if _, err := p.createAccount.Call(w, strings.Repeat("a", p.version)); err != nil {
			return nil, err
		}
		_, err := Receive[any](w, "go", 0)
		return nil, err
	})
	return p
}

func TestMain(m *testing.M) {
	if which := os.Getenv("ROMANCY_TEST_WORKER"); which != "" {
		p := newProgram(&testing.B{}).App
		if which == "faults" {
			p = newFaults(&testing.B{}).App
		}
		if err := p.Run(context.Background(), WorkerOptions{Concurrency: 4, Lease: 3 * time.Second}); err != nil {
			panic(err)
		}
		p.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func session(t *testing.T, f func(context.Context, *program, *Session) error) {
	t.Helper()
	p := newProgram(t)
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := p.Test(ctx, func(s *Session) error { return f(ctx, p, s) }); err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestExpires(t *testing.T) {
	session(t, func(ctx context.Context, p *program, s *Session) error {
		i, err := p.signup.Start(ctx, "flaky@x", StartOptions{Tx: s.Tx})
		if err != nil {
			return err
		}
		if err := s.Run(ctx, true); err != nil {
			return err
		}
		got, err := Outcome(ctx, s, i)
		equal(t, got, "expired")
		equal(t, len(p.mails), 3)
		return err
	})
}

func TestConfirmed(t *testing.T) {
	session(t, func(ctx context.Context, p *program, s *Session) error {
		i, err := p.signup.Start(ctx, "eva@x", StartOptions{Tx: s.Tx})
		if err != nil {
			return err
		}
		if err := s.Run(ctx, false); err != nil {
			return err
		}
		p.forget() // another process goes on: by replay
		if err := i.Signal(ctx, "confirmed", nil, s.Tx); err != nil {
			return err
		}
		if err := s.Run(ctx, false); err != nil {
			return err
		}
		got, err := Outcome(ctx, s, i)
		equal(t, got, "account 5")
		return err
	})
}

func TestFanOut(t *testing.T) {
	session(t, func(ctx context.Context, p *program, s *Session) error {
		i, err := p.fanOut.Start(ctx, 7, StartOptions{Tx: s.Tx})
		if err != nil {
			return err
		}
		if err := s.Run(ctx, false); err != nil {
			return err
		}
		got, err := Outcome(ctx, s, i)
		equal(t, len(got), 7)
		return err
	})
}

func TestRace(t *testing.T) {
	session(t, func(ctx context.Context, p *program, s *Session) error {
		i, err := p.race.Start(ctx, nil, StartOptions{Tx: s.Tx})
		if err != nil {
			return err
		}
		if err := s.Run(ctx, false); err != nil {
			return err
		}
		if err := i.Signal(ctx, "m", 4, s.Tx); err != nil {
			return err
		}
		if err := s.Run(ctx, true); err != nil {
			return err
		}
		got, err := Outcome(ctx, s, i)
		equal(t, got, "message 4, then nothing")
		return err
	})
}

func TestErrorIsCaught(t *testing.T) {
	session(t, func(ctx context.Context, p *program, s *Session) error {
		i, err := p.order.Start(ctx, "CARD", StartOptions{Tx: s.Tx})
		if err != nil {
			return err
		}
		if err := s.Run(ctx, true); err != nil {
			return err
		}
		got, err := Outcome(ctx, s, i)
		equal(t, got["code"], "CARD")
		equal(t, got["kid"], "expired")
		return err
	})
}

func TestChangedProgramPauses(t *testing.T) {
	session(t, func(ctx context.Context, p *program, s *Session) error {
		i, err := p.changed.Start(ctx, nil, StartOptions{Tx: s.Tx})
		if err != nil {
			return err
		}
		if err := s.Run(ctx, false); err != nil {
			return err
		}
		p.version = 2
		p.forget()
		if err := i.Signal(ctx, "go", nil, s.Tx); err != nil {
			return err
		}
		if err := s.Run(ctx, false); err != nil {
			return err
		}
		_, err = Outcome(ctx, s, i)
		if !errors.Is(err, ErrNonDeterminism) {
			t.Errorf("got %v", err)
		}
		return nil
	})
}

func TestWorkerIsKilled(t *testing.T) {
	p := newProgram(t)
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := p.Define(ctx, p.Pool); err != nil {
		t.Fatal(err)
	}
	worker := func() *exec.Cmd {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), "ROMANCY_TEST_WORKER=1")
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	instances := make([]Instance[string], 20)
	for n := range instances {
		i, err := p.signup.Start(ctx, "user"+strconv.Itoa(n)+"@x", StartOptions{Key: "user" + strconv.Itoa(n)})
		if err != nil {
			t.Fatal(err)
		}
		instances[n] = i
	}
	killed := worker()
	fan, err := p.fanOut.Start(ctx, 20, StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := fan.Result(ctx, 90*time.Second)
	if err != nil || len(got) != 20 || got[19] != 19 {
		t.Fatal(got, err)
	}
	_ = killed.Process.Signal(syscall.SIGKILL)
	_ = killed.Wait()
	stopped := worker()
	for _, i := range instances {
		if err := i.Signal(ctx, "confirmed", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	for n, i := range instances {
		got, err := i.Result(ctx, 3*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, got, "account "+strconv.Itoa(len("user"+strconv.Itoa(n)+"@x")))
	}
	_ = stopped.Process.Signal(syscall.SIGTERM)
	if err := stopped.Wait(); err != nil {
		t.Error(err)
	}
}

// A database without the extension, and a role without usage, are told as such.
func TestMissing(t *testing.T) {
	ctx := context.Background()
	url := os.Getenv("ROMANCY_TEST_URL")
	p := newProgram(t)
	defer p.Close()
	if _, err := p.Pool.Exec(ctx, "create role go_stranger login"); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = p.Pool.Exec(ctx, "drop role go_stranger") }()
	user := url[strings.Index(url, "user="):]
	for url, words := range map[string][2]string{
		strings.Replace(url, "/postgres?", "/template1?", 1): {"lacks extension romancy", "CREATE EXTENSION romancy"},
		strings.Replace(url, user, "user=go_stranger", 1):    {"may not use romancy", "grant_usage"},
	} {
		app, err := New(ctx, url, Options{})
		if err != nil {
			t.Fatal(err)
		}
		NewActivity(app, "any_activity", func(_ context.Context, x int) (int, error) { return x, nil })
		var e *Error
		if err = app.Define(ctx, app.Pool); !errors.As(err, &e) || !strings.Contains(e.Message, words[0]) || !strings.Contains(e.Hint, words[1]) {
			t.Errorf("%s: %v", words[0], err)
		}
		app.Close()
	}
}
