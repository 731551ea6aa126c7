package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal replaces standard error by a pseudoterminal. screen restores it and returns what was
// written.
func terminal(t *testing.T) (screen func() string) {
	t.Helper()
	controller, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { controller.Close() })
	fd := int(controller.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	device, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = device
	t.Cleanup(func() { os.Stderr = stderr })
	written := make(chan string)
	go func() {
		var text strings.Builder
		buffer := make([]byte, 4096)
		for {
			n, err := controller.Read(buffer)
			text.Write(buffer[:n])
			if err != nil { // EIO: the device was closed
				written <- text.String()
				return
			}
		}
	}()
	return func() string {
		device.Close()
		return <-written
	}
}

// TestProgressOnATerminal checks that a manual rotation shows a progress bar, and no log lines.
func TestProgressOnATerminal(t *testing.T) {
	dir, file, _ := devNotes(t, 5)
	for _, command := range []string{"reencrypt", "verify"} {
		to := rotateLocal(t, dir)
		if command == "verify" {
			if code := run(context.Background(), []string{"reencrypt", "--config", file, "--to-version", fmt.Sprint(to), "--strategy", "Reencrypt"}); code != 0 {
				t.Fatalf("reencrypt ended with %d", code)
			}
		}
		screen := terminal(t)
		code := run(context.Background(), []string{command, "--config", file, "--to-version", fmt.Sprint(to), "--strategy", "Reencrypt"})
		text := screen()
		if code != 0 || !strings.Contains(text, "\r["+strings.Repeat("#", 40)+"] 100 %") || strings.Contains(text, `"msg":"in progress"`) {
			t.Errorf("%s ended with %d; the terminal shows %q", command, code, text)
		}
	}
}
