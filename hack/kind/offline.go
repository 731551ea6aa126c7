package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// offline returns a command of hack/offline, the program for machines without Docker or without a
// registry. It prints its own steps.
func (a *app) offline(ctx context.Context, args ...string) (*proc.Cmd, error) {
	path := filepath.Join(a.layout.Root, "bin", "offline")
	module := filepath.Join(a.layout.Root, "hack", "offline")
	if err := proc.New("go", "build", "-mod=readonly", "-trimpath", "-o", path, ".").In(module).WithEnv(toolchain.BuildEnv()...).Run(ctx); err != nil {
		return nil, err
	}
	cmd := proc.New(path, args...)
	cmd.Tee = a.Console
	return cmd, nil
}

func (a *app) runOffline(ctx context.Context, args ...string) error {
	cmd, err := a.offline(ctx, args...)
	if err != nil {
		return err
	}
	return cmd.Run(ctx)
}

// offlineUsed reports whether hack/offline has started a Docker daemon, which `down` must stop.
func offlineUsed() bool {
	_, err := os.Stat(layout.RunDir)
	return err == nil
}

// offlineImages makes hack/offline build the images and serve them until stop is called.
func (a *app) offlineImages(ctx context.Context) (lock imagelock.Lock, stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd, err := a.offline(ctx, "images")
	if err != nil {
		cancel()
		return lock, nil, err
	}
	server := cmd.Exec(ctx)
	server.Stderr = a.Console
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		cancel()
		return lock, nil, err
	}
	stop = func() { cancel(); _ = server.Wait() }
	// Its only line is the path of the lock, once the registry listens.
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		if ctx.Err() == nil {
			err = errors.New("hack/offline built no images, see above")
		}
		return lock, nil, err
	}
	if lock, err = imagelock.Read(strings.TrimSpace(line)); err != nil {
		stop()
		return lock, nil, fmt.Errorf("the lock of hack/offline: %w", err)
	}
	return lock, stop, nil
}
