package vaultadmin

import (
	"context"
	"sync"
	"testing"
	"time"
)

// soon bounds a call that must not wait for Vault. It is far below requestTimeout.
const soon = 5 * time.Second

// readKey returns the problem of a call that must return soon.
func readKey(ctx context.Context, t *testing.T, client *Client) Problem {
	t.Helper()
	began := time.Now()
	_, err := client.ReadKey(ctx, "key")
	if took := time.Since(began); took > soon {
		t.Errorf("the call took %s: %v", took, err)
	}
	if err == nil {
		return ""
	}
	return ProblemOf(err)
}

// await waits for a condition that other goroutines fulfil.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// hang makes Vault accept requests and answer none, until answer is called or the test ends.
func hang(t *testing.T, vault *server) (answer func()) {
	t.Helper()
	vault.mu.Lock()
	answer = sync.OnceFunc(vault.mu.Unlock)
	t.Cleanup(answer)
	return answer
}

// begin starts a call that waits until Vault answers or end cancels it.
func begin(t *testing.T, client *Client) (end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = client.ReadKey(ctx, "key")
	}()
	return func() { cancel(); <-done }
}

// TestCallsAreBounded checks that a Vault that does not answer blocks at most MaxCalls workers,
// that further calls fail soon, and that another Vault is not affected.
func TestCallsAreBounded(t *testing.T) {
	vault, _, client := start(t)
	if got := readKey(t.Context(), t, client); got != "" {
		t.Fatal(got)
	}
	hang(t, vault)
	for range MaxCalls {
		defer begin(t, client)()
	}
	await(t, "calls under way", func() bool { return len(client.session.gate.places) == MaxCalls })
	if got := readKey(t.Context(), t, client); got != Busy {
		t.Errorf("one more call: %q", got)
	}
	_, _, other := start(t)
	if got := readKey(t.Context(), t, other); got != "" {
		t.Errorf("another Vault: %q", got)
	}
}

// TestHungVaultIsLeftAlone checks that after a call that timed out, others fail at once, except for
// one at a time that probes Vault after a pause.
func TestHungVaultIsLeftAlone(t *testing.T) {
	vault, clock, client := start(t)
	if got := readKey(t.Context(), t, client); got != "" {
		t.Fatal(got)
	}
	impatient := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	answer := hang(t, vault)
	if got := readKey(impatient(), t, client); got != Unreachable {
		t.Fatalf("not answered in time: %q", got)
	}
	if got := readKey(t.Context(), t, client); got != Unreachable || len(client.session.gate.places) != 0 {
		t.Errorf("within the pause: %q", got)
	}
	clock.now = clock.now.Add(hungPause)
	end := begin(t, client)
	await(t, "the probe", func() bool { return len(client.session.gate.places) == 1 })
	if got := readKey(t.Context(), t, client); got != Unreachable {
		t.Errorf("beside the probe: %q", got)
	}
	end()
	if got := readKey(impatient(), t, client); got != Unreachable {
		t.Fatalf("after the probe was cancelled: %q", got)
	}
	answer()
	if got := readKey(t.Context(), t, client); got != Unreachable {
		t.Errorf("within the second pause: %q", got)
	}
	clock.now = clock.now.Add(hungPause)
	for range 3 {
		if got := readKey(t.Context(), t, client); got != "" {
			t.Errorf("once it answers again: %q", got)
		}
	}
}

// TestOneSlowCall checks that a slow call does not count if Vault answers others meanwhile.
func TestOneSlowCall(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	g := newGate("https://vault", func() time.Time { return now })
	slow := g.pass(t.Context(), func() error {
		now = now.Add(time.Second)
		if err := g.pass(t.Context(), func() error { return nil }); err != nil {
			t.Error(err)
		}
		return classify("https://vault", "slow", context.DeadlineExceeded)
	})
	if ProblemOf(slow) != Unreachable {
		t.Errorf("the slow call: %v", slow)
	}
	if err := g.pass(t.Context(), func() error { return nil }); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// TestHungRenewal checks that there is no login after a renewal that timed out.
func TestHungRenewal(t *testing.T) {
	vault, clock, client := start(t)
	if got := readKey(t.Context(), t, client); got != "" {
		t.Fatal(got)
	}
	clock.now = clock.now.Add(11 * time.Minute)
	answer := hang(t, vault)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := readKey(ctx, t, client); got != Unreachable {
		t.Fatalf("not answered in time: %q", got)
	}
	answer()
	clock.now = clock.now.Add(hungPause)
	got := readKey(t.Context(), t, client)
	vault.mu.Lock()
	defer vault.mu.Unlock()
	if got != "" || vault.logins != 1 {
		t.Errorf("got %q after %d logins, want nothing after 1", got, vault.logins)
	}
}
