//go:build integration

package chaos_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/securenotes/securenotes/hack/chaos/exhaustion"
	"github.com/securenotes/securenotes/hack/notesclient"
)

// buildCrowd builds the attackers' program without the race detector, which limits goroutines.
func buildCrowd(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crowd")
	build := exec.Command("go", "build", "-o", path, "github.com/securenotes/securenotes/hack/chaos/exhaustion/crowd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	return path
}

// startCrowd runs the attackers until end is called. They have a low priority, because real
// attackers do not use the replica's processors.
func (a *arena) startCrowd(ways []string) (end func()) {
	a.Helper()
	target, err := json.Marshal(exhaustion.Target{
		Address: a.config.Listen, Probes: a.config.MetricsListen, CAFile: a.config.TLS.CertFile,
		Accounts: exhaustion.Accounts{Writers: a.attackers[:writers], Listers: a.attackers[writers:], EndedToken: a.ended},
	})
	if err != nil {
		a.Fatal(err)
	}
	command := exec.Command("nice", append([]string{"-n", "10", a.crowd}, ways...)...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(target), &out, &out
	if err := command.Start(); err != nil {
		a.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	return func() {
		a.Helper()
		select {
		case err := <-ended:
			if len(ways) > 0 {
				a.Fatalf("the attackers' program ended early: %v: %s", err, out.String())
			}
		default:
			_ = command.Process.Kill()
			<-ended
		}
	}
}

// newClient returns an ordinary client that uses the address, without a session.
func (a *arena) newClient(address string, o notesclient.Options) *notesclient.Client {
	o.LocalAddress, o.RootCAs = address, a.service.Pool
	return notesclient.New(a.service.URL, o)
}
