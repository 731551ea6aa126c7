//go:build integration

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/hack/poll"
)

// counter counts from 1.
type counter struct{ atomic.Int64 }

func (c *counter) next() int { return int(c.Add(1)) }

// patience bounds each wait of a test, while other tests run.
const patience = 90 * time.Second

// await waits until check returns an empty text.
func await(t *testing.T, what string, check func() string) {
	t.Helper()
	poll.Eventually(t, patience, what, func(context.Context) error {
		if wrong := check(); wrong != "" {
			return errors.New(wrong)
		}
		return nil
	})
}

// consistently reports whether something stays true for a duration.
func consistently(long time.Duration, holds func() bool) bool {
	end := time.After(long)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if !holds() {
				return false
			}
		case <-end:
			return holds()
		}
	}
}

// awaitCondition waits for a condition of a SecureNotes and returns its message.
func (c *cluster) awaitCondition(t *testing.T, namespace, name, kind string, status metav1.ConditionStatus, reason string) string {
	t.Helper()
	message := ""
	await(t, fmt.Sprintf("%s/%s %s=%s/%s", namespace, name, kind, status, reason), func() string {
		sn := &v1alpha1.SecureNotes{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, sn); err != nil {
			return err.Error()
		}
		condition := meta.FindStatusCondition(sn.Status.Conditions, kind)
		if condition == nil || condition.Status != status || condition.Reason != reason {
			return fmt.Sprintf("%+v", sn.Status.Conditions)
		}
		message = condition.Message
		return ""
	})
	return message
}

// writeCounter records the writes of an operator.
type writeCounter struct {
	mu   sync.Mutex
	seen []string
}

func (w *writeCounter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		// Leases serve leader election and events are messages. Neither is the state of an object.
		if request.Method != http.MethodGet && !strings.Contains(request.URL.Path, "/leases") && !strings.Contains(request.URL.Path, "/events") {
			w.mu.Lock()
			w.seen = append(w.seen, request.Method+" "+request.URL.Path)
			w.mu.Unlock()
		}
		return next.RoundTrip(request)
	})
}

// take returns the writes to a namespace, and clears them.
func (w *writeCounter) take(namespace string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.in(namespace)
	w.seen = slices.DeleteFunc(w.seen, func(write string) bool { return slices.Contains(taken, write) })
	return taken
}

// seenIn returns the writes to a namespace since the last take.
func (w *writeCounter) seenIn(namespace string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.in(namespace)
}

func (w *writeCounter) in(namespace string) (writes []string) {
	for _, write := range w.seen {
		if strings.Contains(write, "/namespaces/"+namespace+"/") {
			writes = append(writes, write)
		}
	}
	return writes
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

// operatorLogs holds what the operators of all tests log.
var operatorLogs = &logs{}

type logs struct {
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer.
func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

// showIfFailed prints the lines about a namespace if the test has failed.
func (l *logs) showIfFailed(t *testing.T, namespace string) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, line := range l.lines {
			if strings.Contains(line, " namespace="+namespace+" ") {
				t.Log(strings.TrimSpace(line))
			}
		}
	})
}
