//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// requestTimeout bounds one request of a user.
const requestTimeout = 20 * time.Second

// retryTimeout bounds the retries of a call, while a pod is being replaced or a limit is in force.
const retryTimeout = 90 * time.Second

func trusted(t testing.TB, caFile string) *x509.CertPool {
	t.Helper()
	pool, err := notesclient.RootCAs(caFile)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// connect returns a client of a notes API whose certificate is from the cluster's CA.
func (c *cluster) connect(t testing.TB, url string) *notesclient.Client {
	t.Helper()
	n := notesclient.New(url, notesclient.Options{RootCAs: trusted(t, c.ca), Timeout: requestTimeout, HTTP2: true})
	t.Cleanup(n.Close)
	return n
}

// connectTo returns a client of a pod or Service, through a forwarded port. The port is open until
// the test ends or stop is called.
func (c *cluster) connectTo(t testing.TB, namespace, target, port string) (n *notesclient.Client, stop func()) {
	t.Helper()
	address, stop := forward(t, namespace, target, port)
	return c.connect(t, "https://localhost:"+address[strings.LastIndexByte(address, ':')+1:]), stop
}

// user is a user of a notes API.
type user struct {
	*notesclient.Client
	name, password string
}

// signUp registers a new user and logs in.
func signUp(t testing.TB, api *notesclient.Client) *user {
	t.Helper()
	return signUpWith(t, api, rand.Text())
}

func signUpWith(t testing.TB, api *notesclient.Client, password string) *user {
	t.Helper()
	u := &user{Client: api, name: "user-" + rand.Text()[:12], password: password}
	retry(t, func(ctx context.Context) error { return u.Register(ctx, u.name, u.password) })
	u.logIn(t)
	return u
}

// logIn starts a session, which the user uses from then on.
func (u *user) logIn(t testing.TB) {
	t.Helper()
	retry(t, func(ctx context.Context) error {
		login, err := u.Login(ctx, u.name, u.password)
		if err == nil {
			u.Client = u.WithToken(login.Token)
		}
		return err
	})
}

// moveTo makes the user call another address, in the same session.
func (u *user) moveTo(api *notesclient.Client) { u.Client = api.WithToken(u.Token()) }

// write creates a note and returns its id.
func (u *user) write(t testing.TB, content string) (id string) {
	t.Helper()
	retry(t, func(ctx context.Context) error {
		note, err := u.CreateNote(ctx, notesclient.Content{Content: content, Title: "title"})
		if err == nil {
			id = note.ID
		}
		return err
	})
	return id
}

// read returns the content of a note.
func (u *user) read(t testing.TB, id string) (content string) {
	t.Helper()
	retry(t, func(ctx context.Context) error {
		note, err := u.GetNote(ctx, id)
		if err == nil {
			content = note.Content.Content
		}
		return err
	})
	return content
}

// mustRead fails the test unless every note has the content that was written.
func (u *user) mustRead(t testing.TB, notes map[string]string) {
	t.Helper()
	for id, want := range notes {
		if got := u.read(t, id); got != want {
			t.Errorf("note %s is %q, want %q", id, got, want)
		}
	}
}

// list is a call that needs only a session.
func (u *user) list(ctx context.Context) error {
	_, err := u.ListNotes(ctx, 0, "")
	return err
}

// retry retries a call until it succeeds. It waits while a pod is being replaced or a limit is in
// force; any other error fails the test.
func retry(t testing.TB, call func(context.Context) error) {
	t.Helper()
	poll.Eventually(t, retryTimeout, "a call", func(ctx context.Context) error {
		err := call(ctx)
		if err != nil && !retryable(err) {
			t.Fatal(err)
		}
		return err
	})
}

// eventuallyRefused retries a call, as retry does, until it is refused with the status want.
func eventuallyRefused(t testing.TB, want int, call func(context.Context) error) {
	t.Helper()
	poll.Eventually(t, retryTimeout, fmt.Sprintf("a call to be refused with status %d", want), func(ctx context.Context) error {
		err := call(ctx)
		switch {
		case notesclient.Status(err) == want:
			return nil
		case err != nil && retryable(err):
			return err
		}
		t.Fatalf("got %v, want status %d", err, want)
		return nil
	})
}

// retryable reports whether the same call may succeed later.
func retryable(err error) bool {
	status := notesclient.Status(err)
	return status == 0 || status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// mustBeRefused makes one call, which must be refused with the status want.
func mustBeRefused(t testing.TB, want int, call func(context.Context) error) {
	t.Helper()
	if err := call(t.Context()); notesclient.Status(err) != want {
		t.Fatalf("got %v, want status %d", err, want)
	}
}

// mustSucceed makes one call, which must succeed.
func mustSucceed(t testing.TB, call func(context.Context) error) {
	t.Helper()
	if err := call(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forward forwards a free port of loopback to a port of a pod or Service, until the test ends or
// stop is called.
func forward(t testing.TB, namespace, target, port string) (address string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "kubectl", "-n", namespace, "port-forward", "--address", "127.0.0.1", target, ":"+port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if match := forwarding.FindStringSubmatch(lines.Text()); match != nil {
			go func() { // kubectl reports every connection
				for lines.Scan() {
					continue
				}
			}()
			return match[1], stop
		}
	}
	t.Fatalf("kubectl port-forward %s/%s %s printed no address", namespace, target, port)
	return "", nil
}
