// A sign-up service: an account, a mail, a confirmation or a timeout, a welcome. PGHOST and its like say where.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"romancy"
)

func main() {
	app := romancy.Must(romancy.New(context.Background(), "", romancy.Options{Queue: "signup"}))
	createAccount := romancy.NewActivity(app, "create_account", func(_ context.Context, email string) (int, error) { return len(email), nil })
	sendMail := romancy.NewActivity(app, "send_mail", func(_ context.Context, mail [2]string) (int, error) {
		return fmt.Printf("to %s: %s\n", mail[0], mail[1])
	}, romancy.Retry(map[string]any{"max_attempts": 10}))
	romancy.NewWorkflow(app, "signup", func(w *romancy.W, email string) (string, error) {
		account := romancy.Must(createAccount.Call(w, email))
		romancy.Must(sendMail.Call(w, [2]string{email, "please confirm"}))
		if _, err := romancy.Receive[any](w, "confirmed", 72*time.Hour); errors.Is(err, romancy.ErrTimeout) {
			return "expired", nil
		}
		romancy.Must(sendMail.Call(w, [2]string{email, "welcome"}))
		return fmt.Sprint("account ", account), nil
	})
	fmt.Println(app.Run(context.Background(), romancy.WorkerOptions{}))
}
