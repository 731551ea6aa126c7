package chaos

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// requestTimeout is longer than the service's own timeout.
const requestTimeout = 25 * time.Second

// call is a request to one replica.
type call func(ctx context.Context, replica *notesclient.Client) error

// send makes a call, and records a violation if the service gives an answer that it must never
// give.
func (l *Load) send(ctx context.Context, replica *notesclient.Client, do call) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	err := do(ctx, replica)
	if notesclient.Status(err) == http.StatusInternalServerError {
		l.violation("%v", err)
	}
	return err
}

// until repeats a call, to the replica that choose returns, until the answer is conclusive, and
// returns the call's error. If ctx ends first, it returns an error that is not [conclusive].
func (l *Load) until(ctx context.Context, choose func() *notesclient.Client, do call) error {
	var answer error
	if err := poll.Until(ctx, func(ctx context.Context) error {
		if answer = l.send(ctx, choose(), do); conclusive(answer) {
			return nil
		}
		return answer
	}); err != nil {
		return fmt.Errorf("no conclusive answer: %w", err)
	}
	return answer
}

// conclusive reports whether an answer shows what the service did: success, or a refusal that the
// same request would get again.
func conclusive(err error) bool {
	return effectOf(err) != unknown && notesclient.Status(err) != http.StatusTooManyRequests
}

// effectOf returns the effect of a write that follows from its answer.
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
