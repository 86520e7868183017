// Sends a share job to imageshare: publish.mjs IMAGE REGION SHARE|CANCEL|SYNC ACCOUNT...
import { randomUUID } from "node:crypto";
import amqp from "amqplib";

const [image_id, region, permission, ...account_ids] = process.argv.slice(2);
if (account_ids.length === 0) {
  console.error("publish.mjs IMAGE REGION SHARE|CANCEL|SYNC ACCOUNT...");
  process.exit(1);
}
const lane = process.env.IMAGESHARE_LANE ?? "default";
const job = { job_id: randomUUID(), image_id, region, permission, account_ids };

const connection = await amqp.connect(process.env.IMAGESHARE_BROKER_URL);
try {
  const channel = await connection.createConfirmChannel();
  // The broker returns an unroutable message before it confirms it.
  let returned = false;
  channel.on("return", () => (returned = true));
  // The reason for a closed channel, such as a missing exchange.
  let closed;
  channel.on("error", (error) => (closed = error));
  // The lane's own exchange, so that broker permissions apply per lane.
  channel.publish(`imageshare.jobs.${lane}`, lane, Buffer.from(JSON.stringify(job)), {
    messageId: job.job_id,
    contentType: "application/json",
    persistent: true,
    timestamp: Math.floor(Date.now() / 1000),
    mandatory: true,
  });
  await channel.waitForConfirms().catch((error) => {
    if (closed?.code !== 404) throw closed ?? error;
  });
  if (returned || closed) {
    throw new Error(`no queue for the lane ${lane}; make it with: imageshare topology --declare`);
  }
  console.log("published", job.job_id);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await connection.close();
}
