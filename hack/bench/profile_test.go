//go:build bench

package bench

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/hack/poll"
)

// where lists the functions that the summary of a profile shows, by the end of their pprof line.
// They overlap: the time of a function includes that of the functions that it calls.
var where = []struct{ what, function string }{
	{"HTTP, all of it", `net/http\.\(\*conn\)\.serve`},
	{"handlers", `httpapi\.\(\*handlers\)\.(?:createNote|getNote|login)`},
	{"passwords", `accounts\.\(\*Hasher\)\.Verify`},
	{"database, joined creations", `store\.\(\*Store\)\.createNotes`},
	{"database, joined reads", `store\.\(\*Store\)\.readNotes`},
	{"seal", `envelope\.\(\*OwnerKey\)\.Seal`},
	{"open", `envelope\.\(\*OwnerKey\)\.Open`},
	{"session token", `sessions\.\(\*Codec\)\.Decode`},
	{"JSON in", `httpapi\.decode`},
	{"JSON out", `gin\.\(\*Context\)\.JSON`},
	{"audit line", `audit\.\(\*Log\)\.Write`},
	{"TLS and sockets, reading", `crypto/tls\.\(\*Conn\)\.Read`},
	{"TLS and sockets, writing", `crypto/tls\.\(\*Conn\)\.Write`},
	{"system calls", `internal/runtime/syscall/linux\.Syscall6`},
	{"garbage collection", `runtime\.gcBgMarkWorker`},
	{"allocation", `runtime\.mallocgc`},
}

// profiled runs work and returns a summary of where the service spends its processor time.
func (s *service) profiled(t *testing.T, work func()) string {
	t.Helper()
	toggle := func() { s.process.Signal(t, syscall.SIGUSR1) }
	toggle()
	work()
	toggle()
	var top []byte
	poll.Eventually(t, time.Minute, "the end of the profile, which completes its file", func(ctx context.Context) (err error) {
		if top, err = exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount", "2000", s.profile).CombinedOutput(); err != nil {
			return fmt.Errorf("go tool pprof: %w: %s", err, top)
		}
		return nil
	})
	var out strings.Builder
	for _, w := range where {
		line := regexp.MustCompile(`(?m)^.* ([0-9.]+)%\s+\S*` + w.function + `(?: \(inline\))?$`).FindSubmatch(top)
		if line != nil {
			fmt.Fprintf(&out, "  %5s %%  %s\n", line[1], w.what)
		}
	}
	return out.String()
}
