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

// requestTimeout bounds one request of a user's.
const requestTimeout = 20 * time.Second

// patience bounds a call that is repeated: a pod is being replaced, or a limit has been reached.
const patience = 90 * time.Second

func trusted(t testing.TB, caFile string) *x509.CertPool {
	t.Helper()
	pool, err := notesclient.RootCAs(caFile)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// connect returns a client of a notes API that has a certificate of the cluster's authority.
func (c *cluster) connect(t testing.TB, url string) *notesclient.Client {
	t.Helper()
	n := notesclient.New(url, notesclient.Options{RootCAs: trusted(t, c.ca), Timeout: requestTimeout, HTTP2: true})
	t.Cleanup(n.Close)
	return n
}

// connectTo returns a client of a pod or Service, through a port that is open until the test ends
// or stop is called.
func (c *cluster) connectTo(t testing.TB, namespace, target, port string) (n *notesclient.Client, stop func()) {
	t.Helper()
	address, stop := forward(t, namespace, target, port)
	return c.connect(t, "https://localhost:"+address[strings.LastIndexByte(address, ':')+1:]), stop
}

// user is one user of one notes API.
type user struct {
	*notesclient.Client
	name, password string
}

// signUp registers a new user, who logs in.
func signUp(t testing.TB, api *notesclient.Client) *user {
	t.Helper()
	return signUpWith(t, api, rand.Text())
}

func signUpWith(t testing.TB, api *notesclient.Client, password string) *user {
	t.Helper()
	u := &user{Client: api, name: "user-" + rand.Text()[:12], password: password}
	patiently(t, func(ctx context.Context) error { return u.Register(ctx, u.name, u.password) })
	u.logIn(t)
	return u
}

// logIn begins a session, which is the user's from then on.
func (u *user) logIn(t testing.TB) {
	t.Helper()
	patiently(t, func(ctx context.Context) error {
		login, err := u.Login(ctx, u.name, u.password)
		if err == nil {
			u.Client = u.WithToken(login.Token)
		}
		return err
	})
}

// moveTo has the user call another address, in the same session.
func (u *user) moveTo(api *notesclient.Client) { u.Client = api.WithToken(u.Token()) }

// write creates a note and returns its id.
func (u *user) write(t testing.TB, content string) (id string) {
	t.Helper()
	patiently(t, func(ctx context.Context) error {
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
	patiently(t, func(ctx context.Context) error {
		note, err := u.GetNote(ctx, id)
		if err == nil {
			content = note.Content.Content
		}
		return err
	})
	return content
}

// reads fails unless every note reads back as it was written.
func (u *user) reads(t testing.TB, notes map[string]string) {
	t.Helper()
	for id, want := range notes {
		if got := u.read(t, id); got != want {
			t.Errorf("note %s is %q, want %q", id, got, want)
		}
	}
}

// list is a call that needs a session and nothing else.
func (u *user) list(ctx context.Context) error {
	_, err := u.ListNotes(ctx, 0, "")
	return err
}

// patiently repeats a call until it succeeds. A pod that is just being replaced is waited for, and
// so is the end of a limit; any other refusal fails the test.
func patiently(t testing.TB, call func(context.Context) error) {
	t.Helper()
	poll.Eventually(t, patience, "a call", func(ctx context.Context) error {
		err := call(ctx)
		if err != nil && !passing(err) {
			t.Fatal(err)
		}
		return err
	})
}

// refused repeats a call until it is refused with a status, as patiently does.
func refused(t testing.TB, want int, call func(context.Context) error) {
	t.Helper()
	poll.Eventually(t, patience, fmt.Sprintf("a call to be refused with status %d", want), func(ctx context.Context) error {
		err := call(ctx)
		switch {
		case notesclient.Status(err) == want:
			return nil
		case err != nil && passing(err):
			return err
		}
		t.Fatalf("got %v, want status %d", err, want)
		return nil
	})
}

// passing reports whether the same call may succeed a moment later.
func passing(err error) bool {
	status := notesclient.Status(err)
	return status == 0 || status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// refusedNow makes one call, which must be refused with a status.
func refusedNow(t testing.TB, want int, call func(context.Context) error) {
	t.Helper()
	if err := call(t.Context()); notesclient.Status(err) != want {
		t.Fatalf("got %v, want status %d", err, want)
	}
}

// now makes one call, which must succeed.
func now(t testing.TB, call func(context.Context) error) {
	t.Helper()
	if err := call(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var forwarding = regexp.MustCompile(`Forwarding from (127\.0\.0\.1:\d+)`)

// forward opens a port of a pod or Service on a free port of loopback until the test ends or stop
// is called.
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
	t.Fatalf("kubectl port-forward %s/%s %s gave no address", namespace, target, port)
	return "", nil
}
