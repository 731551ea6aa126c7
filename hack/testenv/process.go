package testenv

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/hack/poll"
)

// startTimeout bounds how long a server may take to answer.
const startTimeout = time.Minute

// process is a server that runs until the test ends or Stop is called.
type process struct {
	command *exec.Cmd
	done    chan struct{}
	log     string
}

// start runs command with its output in dir/NAME.log. The server ends with the test binary, even if
// the binary is killed (Pdeathsig).
func start(t testing.TB, dir, name string, signal syscall.Signal, command *exec.Cmd) *process {
	t.Helper()
	p := &process{command: command, done: make(chan struct{}), log: filepath.Join(dir, name+".log")}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	command.Stdout, command.Stderr = out, out
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := command.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go func() {
		_ = command.Wait()
		_ = out.Close()
		close(p.done)
	}()
	t.Cleanup(func() { p.stop(t, signal) })
	return p
}

// stop sends the signal to the server and waits. It kills a server that does not end within 20 s.
func (p *process) stop(t testing.TB, signal syscall.Signal) {
	t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.command.Process.Signal(signal)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.command.Process.Kill()
		<-p.done
	}
}

// await calls ready until it returns nil, the process ends, or startTimeout is over.
func (p *process) await(t testing.TB, ready func(context.Context) error) {
	t.Helper()
	if err := poll.Within(context.Background(), startTimeout, func(ctx context.Context) error {
		select {
		case <-p.done:
			t.Fatalf("%s ended when it started: %s", p.command.Path, p.tail())
		default:
		}
		return ready(ctx)
	}); err != nil {
		t.Fatalf("%s does not answer: %v\n%s", p.command.Path, err, p.tail())
	}
}

func (p *process) tail() string {
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > 2000 {
		_, _ = f.Seek(-2000, io.SeekEnd)
	}
	raw, _ := io.ReadAll(f)
	return string(raw)
}

// FreeAddress returns a free port of loopback, as host:port; see freePort.
func FreeAddress(t testing.TB) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
}

// freePort returns a port of loopback that is free now. It is below the ports that the kernel
// assigns to outgoing connections: a test opens many, and one could take the port before the server
// does.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(12_000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
	t.Fatal("no port of loopback from 20000 to 31999 is free")
	return 0
}
