//go:build bench

package main

import (
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
)

// With the build tag bench, the first SIGUSR1 starts a CPU profile into the file that
// SECURENOTES_PROFILE names, and the next one ends it.
func init() { //nolint:gochecknoinits // main has no hook for it
	path := os.Getenv("SECURENOTES_PROFILE")
	if path == "" {
		return
	}
	toggle := make(chan os.Signal, 1)
	signal.Notify(toggle, syscall.SIGUSR1)
	go func() {
		for range toggle {
			profile(path, toggle)
		}
	}()
}

func profile(path string, end <-chan os.Signal) {
	file, err := os.Create(path)
	if err == nil {
		defer file.Close()
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		slog.Error("no profile", "error", err.Error())
		return
	}
	<-end
	pprof.StopCPUProfile()
}
