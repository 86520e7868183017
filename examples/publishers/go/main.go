// Sends a share job to imageshare: publish IMAGE REGION SHARE|CANCEL|SYNC ACCOUNT...
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

type job struct {
	JobID      string   `json:"job_id"`
	ImageID    string   `json:"image_id"`
	Region     string   `json:"region"`
	Permission string   `json:"permission"`
	AccountIDs []string `json:"account_ids"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 5 {
		log.Fatal("publish IMAGE REGION SHARE|CANCEL|SYNC ACCOUNT...")
	}
	lane := os.Getenv("IMAGESHARE_LANE")
	if lane == "" {
		lane = "default"
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		log.Fatal(err)
	}
	send := job{hex.EncodeToString(id), os.Args[1], os.Args[2], os.Args[3], os.Args[4:]}
	if err := publish(os.Getenv("IMAGESHARE_BROKER_URL"), lane, send); err != nil {
		log.Fatal(err)
	}
	fmt.Println("published", send.JobID)
}

func publish(url, lane string, send job) error {
	connection, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	if err := channel.Confirm(false); err != nil {
		return err
	}
	// The broker returns an unroutable message before it confirms it.
	returned := channel.NotifyReturn(make(chan amqp.Return, 1))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 1))
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	noLane := fmt.Errorf("no queue for the lane %s; make it with: imageshare topology --declare", lane)
	body, err := json.Marshal(send)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// The lane's own exchange, so that broker permissions apply per lane.
	err = channel.PublishWithContext(ctx, "imageshare.jobs."+lane, lane, true, false, amqp.Publishing{
		MessageId:    send.JobID,
		ContentType:  "application/json",
		DeliveryMode: amqp.Persistent,
		Timestamp:    time.Now(),
		Body:         body,
	})
	if err != nil {
		return err
	}
	select {
	case confirm, open := <-confirms:
		if !open {
			if err := <-closed; err != nil && err.Code == amqp.NotFound {
				return noLane
			} else if err != nil {
				return fmt.Errorf("the broker refused the job: %w", err)
			}
		}
		if !confirm.Ack {
			return fmt.Errorf("the broker did not confirm the job; send it again")
		}
	case <-ctx.Done():
		return fmt.Errorf("no confirm within 30 seconds; send the job again")
	}
	select {
	case <-returned:
		return noLane
	default:
		return nil
	}
}
