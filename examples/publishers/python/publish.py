"""Sends a share job to imageshare: publish.py IMAGE REGION SHARE|CANCEL|SYNC ACCOUNT..."""

import json
import os
import sys
import time
import uuid

import pika

LANE = os.environ.get("IMAGESHARE_LANE", "default")
NO_LANE = f"no queue for the lane {LANE}; make it with: imageshare topology --declare"


def main(image_id, region, permission, *account_ids):
    job = {
        "job_id": str(uuid.uuid4()),
        "image_id": image_id,
        "region": region,
        "permission": permission,
        "account_ids": account_ids,
    }
    properties = pika.BasicProperties(
        message_id=job["job_id"],
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent,
        timestamp=int(time.time()),
    )
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["IMAGESHARE_BROKER_URL"]))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        # The lane's own exchange, so that broker permissions apply per lane.
        channel.basic_publish("imageshare.jobs." + LANE, LANE, json.dumps(job), properties, mandatory=True)
    except pika.exceptions.UnroutableError:
        sys.exit(NO_LANE)
    except pika.exceptions.ChannelClosedByBroker as error:
        sys.exit(NO_LANE if error.reply_code == 404 else f"the broker refused the job: {error.reply_text}")
    except pika.exceptions.NackError:
        sys.exit("the broker refused the job; send it again")
    finally:
        connection.close()
    print("published", job["job_id"])


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
