package chaos

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// requestTimeout is longer than the service's own limit.
const requestTimeout = 25 * time.Second

// call is a request to one replica.
type call func(ctx context.Context, replica *notesclient.Client) error

// send makes a call and notes an answer that the service must never give.
func (l *Load) send(ctx context.Context, replica *notesclient.Client, do call) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := do(ctx, replica)
	if notesclient.Status(err) == http.StatusInternalServerError {
		l.violation("%v", err)
	}
	return err
}

// until repeats a call, at the replica that is chosen each time, until its answer is a telling one.
// It returns what the call returned then; [telling] tells it from the error for the end of ctx.
func (l *Load) until(ctx context.Context, choose func() *notesclient.Client, do call) error {
	var answer error
	if err := poll.Until(ctx, func(ctx context.Context) error {
		if answer = l.send(ctx, choose(), do); telling(answer) {
			return nil
		}
		return answer
	}); err != nil {
		return fmt.Errorf("no telling answer: %w", err)
	}
	return answer
}

// telling reports whether an answer tells what the service did: that it is there, or that the same
// request would be refused again.
func telling(err error) bool {
	return effectOf(err) != unknown && notesclient.Status(err) != http.StatusTooManyRequests
}

// effectOf returns what the answer to a write tells about its effect.
func effectOf(err error) effect {
	switch status := notesclient.Status(err); {
	case err == nil:
		return acknowledged
	case status >= 400 && status < 500:
		return refused
	default:
		return unknown
	}
}
