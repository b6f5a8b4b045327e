/** A sign-up service: an account, a mail, a confirmation or a timeout, a welcome. PGHOST and its like say where. */
import { App, activity, receive, TimeoutError } from "romancy";

const app = new App({ queue: "signup" });

const createAccount = app.activity("create_account", (email: string) => email.length); // insert into account …

const sendMail = app.activity(
  "send_mail",
  ({ to, template }: { to: string; template: string }) => console.log(`to ${to}: ${template}`),
  { retry: { max_attempts: 10 } },
);

app.workflow("signup", async (email: string) => {
  const account = await activity(createAccount, email);
  await activity(sendMail, { to: email, template: "please confirm" });
  try {
    await receive("confirmed", { timeout: "3 days" });
  } catch (error) {
    if (error instanceof TimeoutError) return "expired";
    throw error;
  }
  await activity(sendMail, { to: email, template: "welcome" });
  return `account ${account}`;
});

await app.run();
await app.end();
