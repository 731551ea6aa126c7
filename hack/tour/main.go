// Command tour demonstrates a SecureNotes on a cluster: as a client it writes and reads notes over
// HTTPS, as an administrator it rotates the master key, and then it reads the notes again. It
// prints each step. `make run` runs it, with the variables that hack/kind writes into run.env.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/securenotes/securenotes/hack/notesclient"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// requestTimeout bounds one request of the client.
const requestTimeout = 20 * time.Second

func run(ctx context.Context) error {
	env, err := environment("URL", "CA", "KUBECONFIG", "NAMESPACE", "NAME")
	if err != nil {
		return err
	}
	roots, err := notesclient.RootCAs(env["CA"])
	if err != nil {
		return err
	}
	v := visitor{client: notesclient.New(env["URL"], notesclient.Options{RootCAs: roots, Timeout: requestTimeout})}
	r, err := newRotator(env["KUBECONFIG"], env["NAMESPACE"], env["NAME"])
	if err != nil {
		return err
	}
	for _, s := range []struct {
		title string
		work  func(context.Context) (note string, err error)
	}{
		{"Write and read notes at " + env["URL"], v.firstDay},
		{"Rotate the master key", r.rotate},
		{"Read the note after the rotation", v.read},
	} {
		if err := step(ctx, s.title, s.work); err != nil {
			return err
		}
	}
	return nil
}

func environment(names ...string) (map[string]string, error) {
	values := map[string]string{}
	for _, name := range names {
		if values[name] = os.Getenv(name); values[name] == "" {
			return nil, fmt.Errorf("the environment variable %s is not set: run `make run`, which sets it", name)
		}
	}
	return values, nil
}

// step runs work, and prints the title and how long it took.
func step(ctx context.Context, title string, work func(context.Context) (note string, err error)) error {
	begun := time.Now()
	fmt.Println("==> " + title)
	note, err := work(ctx)
	took := time.Since(begun).Round(100 * time.Millisecond)
	if err != nil {
		say("failed after %s", took)
		return fmt.Errorf("%s: %w", title, err)
	}
	if note != "" {
		note = ": " + note
	}
	say("done in %s%s", took, note)
	return nil
}

// say prints one indented line.
func say(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }
