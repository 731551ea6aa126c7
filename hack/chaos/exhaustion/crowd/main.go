// Command crowd attacks a replica until it is ended. Its arguments are the names of the attacks,
// and it reads the target as JSON from standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/securenotes/securenotes/hack/chaos/exhaustion"
)

// sockets is how many connections all attacks together may have open.
const sockets = 20_000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, ways []string) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur, limit.Max = max(limit.Cur, sockets), max(limit.Max, sockets)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d open files: %w", sockets, err)
	}
	var target exhaustion.Target
	if err := json.NewDecoder(os.Stdin).Decode(&target); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	return exhaustion.Attack(ctx, target, ways)
}
