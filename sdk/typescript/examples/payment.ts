/** A payment with a saga: when a later step fails for good, what was done is undone, last first, by the server. */
import { App, activity, Terminal } from "romancy";

interface Order {
  item: string;
  cents: number;
  address?: string;
}

const app = new App({ queue: "payment" });

const release = app.activity("release", (undo: { result: string }) => console.log(`released ${undo.result}`));
const reserve = app.activity("reserve", (order: Order) => `stock of ${order.item}`, { compensation: release });
const refund = app.activity("refund", (undo: { result: string }) => console.log(`refunded ${undo.result}`));
const charge = app.activity("charge", (order: Order) => `${order.cents} cents`, { compensation: refund });

const ship = app.activity("ship", (order: Order) => {
  if (order.address === undefined) throw new Terminal("there is no address", { code: "NoAddress" });
  return `parcel to ${order.address}`;
});

app.workflow("payment", async (order: Order) => {
  await activity(reserve, order);
  await activity(charge, order);
  return activity(ship, order);
});

await app.run();
await app.end();
