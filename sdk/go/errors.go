package romancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Error is an error of the server's or of an activity, with its SQLSTATE and, for an activity's own, its code.
type Error struct {
	SQLState string          `json:"sqlstate,omitempty"`
	Code     string          `json:"code,omitempty"`
	Message  string          `json:"message"`
	Detail   json.RawMessage `json:"detail,omitempty"`
	Hint     string          `json:"hint,omitempty"`
	// Terminal, in an activity's error: it is not to be tried again.
	Terminal bool `json:"-"`
}

func (e *Error) Error() string { return e.Message }

// Is compares SQLSTATEs, so that errors.Is(err, romancy.ErrTimeout) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.SQLState != "" && t.SQLState == e.SQLState
}

// Errors to compare with errors.Is.
var (
	ErrNonDeterminism = &Error{SQLState: "RM003", Message: "replay does not match history"}
	ErrTimeout        = &Error{SQLState: "RM006", Message: "timeout"}
	ErrCancelled      = &Error{SQLState: "RM008", Message: "cancelled"}
	ErrLeaseLost      = &Error{SQLState: "RM009", Message: "lease lost"}
)

// Fail makes an activity's error that is never tried again. code: what the workflow sees as Code.
func Fail(code, message string) error {
	return &Error{Code: code, Message: message, Terminal: true}
}

func fromDocument(raw json.RawMessage) *Error {
	e := &Error{}
	if err := json.Unmarshal(raw, e); err != nil || e.Message == "" {
		e.Message = "unknown error"
	}
	return e
}

// ofExtension: does a message name what is the extension's? A table of the user's that is not there, say, is not.
var ofExtension = regexp.MustCompile(`\bromancy\b`)

// fromDatabase makes an error of pgx one of ours; errors of the connection stay as they are.
func fromDatabase(err error) error {
	err = fromInstance(err)
	e, ok := err.(*Error)
	if !ok || !ofExtension.MatchString(e.Message) {
		return err
	}
	switch {
	case e.SQLState == "3F000":
		e.Message = "this database lacks extension romancy: " + e.Message
		e.Hint = "Run CREATE EXTENSION romancy in it."
	case e.SQLState == "42883" || e.SQLState == "42P01":
		e.Message = tooOld + ": " + e.Message
		e.Hint = update
	case e.SQLState == "42501" && (e.Hint == "" || strings.Contains(e.Hint, "grant_usage('role')")):
		e.Message = "the role may not use romancy: " + e.Message
		e.Hint = "Run SELECT romancy.grant_usage('role') as the extension's owner."
	}
	return e
}

// fromInstance is the same for an error that may be an instance's, and then says nothing of the extension.
func fromInstance(err error) error {
	var pg *pgconn.PgError
	if err == nil || !errors.As(err, &pg) || strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P") {
		return err
	}
	e := &Error{SQLState: pg.Code, Message: pg.Message, Hint: pg.Hint}
	if pg.Detail != "" {
		e.Detail, _ = json.Marshal(pg.Detail)
	}
	if pg.Code == "RM007" {
		e.Code = pg.ConstraintName
	}
	return e
}

// protocol is the version that this library speaks; romancy.protocol() says what the server does.
const (
	protocol = 1
	tooOld   = "extension romancy of this database is too old for this library"
	update   = "Install a newer romancy on the server and run ALTER EXTENSION romancy UPDATE in the database."
)

// checkProtocol is an error where the server does not speak this library's protocol.
func checkProtocol(ctx context.Context, q Querier) error {
	var oldest, newest int
	if err := q.QueryRow(ctx, "select oldest, newest from romancy.protocol()").Scan(&oldest, &newest); err != nil {
		return fromDatabase(err)
	}
	switch {
	case protocol > newest:
		return &Error{SQLState: "RM010", Hint: update, Message: fmt.Sprintf("%s: it speaks protocol %d, the library %d", tooOld, newest, protocol)}
	case protocol < oldest:
		return &Error{SQLState: "RM010", Hint: "Install a newer version of this library.",
			Message: fmt.Sprintf("extension romancy of this database is too new for this library: it speaks no protocol before %d, the library %d", oldest, protocol)}
	}
	return nil
}

// isPassing: is this no fault of what was asked for? The connection is broken, the server busy, the lease lost.
func isPassing(err error) bool {
	var e *Error
	if !errors.As(err, &e) || len(e.SQLState) != 5 || e.SQLState == "RM009" {
		return true
	}
	switch e.SQLState[:2] {
	case "08", "40", "53", "55", "57", "58":
		return true
	}
	return false
}

// codeOf is what the server is told as error_code.
func codeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		// (RM007 is what the server makes of a name)
		if e.SQLState != "" && (e.SQLState != "RM007" || e.Code == "") {
			return e.SQLState
		}
		if code := short(strings.ReplaceAll(e.Code, "\x00", ""), 200); code != "" {
			return code
		}
	}
	var sql interface{ SQLState() string } // an error of a statement of the program's
	if errors.As(err, &sql) {
		return sql.SQLState()
	}
	return "error"
}

func messageOf(err error) string {
	text := strings.ReplaceAll(err.Error(), "\x00", "")
	text = short(text, 10000)
	if text == "" {
		text = "error"
	}
	return text
}

// short is at most so many bytes of a text, as PostgreSQL can hold them.
func short(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}

// detailOf is the error's detail, or nil; a program's may be no JSON.
func detailOf(err error) any {
	var e *Error
	if errors.As(err, &e) && len(e.Detail) > 0 && json.Valid(e.Detail) {
		return string(e.Detail)
	}
	return nil
}

func isTerminal(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Terminal
}

// accident is a panic in what serves a task, such as an error of the program's whose Error() panics.
type accident struct{ text string }

func (a accident) Error() string { return a.text }

// safely runs what serves a task, and has told say what it panicked with: the task fails, and the process lives on.
func safely(serve func() error, told func(accident) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = told(accident{fmt.Sprintf("panic: %v\n%s", r, debug.Stack())})
		}
	}()
	return serve()
}
