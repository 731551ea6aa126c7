package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// measuredProcess makes the test binary serve. In its own process, a server's memory is measured
// without that of the clients.
const measuredProcess = "SECURENOTES_MEASURED_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(measuredProcess) == "" {
		os.Exit(m.Run())
	}
	if err := serveMeasured(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// unbounded are bounds that no test reaches.
var unbounded = bounds{
	total: 1 << 20, perAddress: 1 << 20, unfinished: 1 << 20, slots: 1 << 20, slotsPerAddress: 1 << 20,
	requests: 1 << 20, requestsPerAddress: 1 << 20, abandoned: 1 << 20, blocked: 1 << 20,
}

// serveMeasured serves until standard input ends. Then it also answers /wait.
func serveMeasured() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	inner, err := openListener(ctx, "api", "127.0.0.1:0", unbounded, Options{})
	if err != nil {
		return err
	}
	inner.timeouts, inner.keepAlive = production, true
	config, _ := exampleTLS()
	inner.Listener = tls.NewListener(inner.Listener, config)
	mux := http.NewServeMux()
	mux.HandleFunc("/wait", func(http.ResponseWriter, *http.Request) { <-ctx.Done() })
	mux.HandleFunc("/memory", func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprintln(w, m.HeapInuse+m.StackInuse)
	})
	fmt.Println(inner.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return Serve(ctx, inner, mux, 0, slog.New(slog.DiscardHandler))
}

// measured is a server in its own process.
type measured struct {
	address string
	client  *http.Client
}

func startMeasured(t *testing.T) *measured {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), measuredProcess+"=1", "GOMEMLIMIT=off")
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, config := exampleTLS()
	config.NextProtos = []string{"http/1.1"}
	return &measured{address: strings.TrimSpace(line), client: &http.Client{Transport: &http.Transport{TLSClientConfig: config}}}
}

// memory returns the size of the server's heap and stacks.
func (m *measured) memory(t *testing.T) (n int) {
	t.Helper()
	response, err := m.client.Get("https://" + m.address + "/memory")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := fmt.Fscan(response.Body, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// attacker is a client of HTTP/2 that reads only when a test calls ReadFrame.
type attacker struct {
	*tls.Conn
	*http2.Framer
}

func (m *measured) attack(t *testing.T) *attacker {
	t.Helper()
	_, config := exampleTLS()
	raw, err := net.Dial("tcp", m.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	conn := tls.Client(raw, config)
	a := &attacker{conn, http2.NewFramer(conn, conn)}
	_, err = io.WriteString(conn, http2.ClientPreface)
	// Without a window, the server cannot send the body of an answer.
	err = errors.Join(err, a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// fields returns an HPACK block of a request with n additional fields of the smallest size.
func fields(path string, n int) []byte {
	var b bytes.Buffer
	literal := func(name, value string) {
		b.WriteByte(0)
		b.WriteByte(byte(len(name)))
		b.WriteString(name)
		b.WriteByte(byte(len(value)))
		b.WriteString(value)
	}
	literal(":method", "GET")
	literal(":scheme", "https")
	literal(":authority", "example.com")
	literal(":path", path)
	for i := range n {
		literal(string([]byte{'a' + byte(i/26%26), 'a' + byte(i%26)}), "")
	}
	return b.Bytes()
}

func (a *attacker) request(t *testing.T, stream uint32, path string, n int) {
	t.Helper()
	err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: fields(path, n), EndHeaders: true, EndStream: true})
	if err != nil {
		t.Fatal(err)
	}
}

// manyFields fit into a header list, and tooManyFields do not.
const manyFields, tooManyFields = (maxHeader+320)/34 - 8, 300

// TestMemoryOfEach measures what clients can make the server hold in all known ways, and compares
// it with the budget.
func TestMemoryOfEach(t *testing.T) {
	for name, tc := range map[string]struct {
		connections int
		attack      func(t *testing.T, m *measured)
		// each is how many items of the budget a connection stands for.
		each, budget int
	}{
		"a ClientHello of 64 KiB": {connections: 50, each: 1, budget: freshMemory, attack: func(t *testing.T, m *measured) {
			conn, err := net.Dial("tcp", m.address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			hello := append([]byte{1, 0, 0xff, 0xff}, make([]byte, 0xfff0)...)
			for part := range slices.Chunk(hello, 16<<10) {
				record := append([]byte{22, 3, 1, byte(len(part) >> 8), byte(len(part))}, part...)
				if _, err := conn.Write(record); err != nil {
					t.Fatal(err)
				}
			}
		}},
		"half a header of HTTP/1.1": {connections: 50, each: 1, budget: establishedMemory, attack: func(t *testing.T, m *measured) {
			_, config := exampleTLS()
			config.NextProtos = []string{"http/1.1"}
			conn, err := tls.Dial("tcp", m.address, config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\n"+strings.Repeat("A:\r\n", (maxHeader+3<<10)/4)); err != nil {
				t.Fatal(err)
			}
		}},
		"idle": {connections: 100, each: 1, budget: establishedMemory, attack: func(t *testing.T, m *measured) { m.attack(t) }},
		"half a frame": {connections: 50, each: 1, budget: establishedMemory, attack: func(t *testing.T, m *measured) {
			a := m.attack(t)
			if err := a.WriteRawFrame(0xee, 0, 0, make([]byte, maxFrame-1)); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Conn.Write([]byte{0, 0x40, 0, 0xee, 0, 0, 0, 0, 0}); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Conn.Write(make([]byte, maxFrame-1)); err != nil {
				t.Fatal(err)
			}
		}},
		"half a header of many fields": {connections: 50, each: 1, budget: establishedMemory, attack: func(t *testing.T, m *measured) {
			a := m.attack(t)
			if err := a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields("/", manyFields)}); err != nil {
				t.Fatal(err)
			}
		}},
		"PINGs whose answers are not read": {connections: 4, each: 1, budget: establishedMemory + blockedMemory, attack: func(t *testing.T, m *measured) {
			a := m.attack(t)
			if err := a.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			var pings bytes.Buffer
			framer := http2.NewFramer(&pings, nil)
			for range 900 {
				if err := framer.WritePing(false, [8]byte{}); err != nil {
					t.Fatal(err)
				}
			}
			for range 1000 {
				if _, err := a.Conn.Write(pings.Bytes()); err != nil {
					break
				}
			}
		}},
		"refused headers whose answers are not read": {connections: 20, each: maxStreams, budget: streamMemory, attack: func(t *testing.T, m *measured) {
			a := m.attack(t)
			for i := range uint32(maxStreams) {
				a.request(t, 2*i+1, "/", tooManyFields)
			}
		}},
		"requests of many fields": {connections: 20, each: maxStreams, budget: streamMemory, attack: func(t *testing.T, m *measured) {
			a := m.attack(t)
			for i := range uint32(maxStreams) {
				a.request(t, 2*i+1, "/wait", manyFields)
			}
		}},
		"requests given up": {connections: 10, each: 1, budget: abandonedMemory + maxStreams*streamMemory + establishedMemory, attack: func(t *testing.T, m *measured) {
			a := m.attack(t)
			for i := range uint32(5 * maxStreams) {
				a.request(t, 2*i+1, "/wait", manyFields)
				if err := a.WriteRSTStream(2*i+1, http2.ErrCodeCancel); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMeasured(t)
			before := m.memory(t)
			for range tc.connections {
				tc.attack(t, m)
			}
			// Data takes a moment to arrive, so measure until the number no longer grows.
			var last, each int
			for rests := 0; rests < 3; rests++ {
				each = (m.memory(t) - before) / tc.connections / tc.each
				if each > last+last/50 {
					last, rests = each, 0
				}
			}
			budget := tc.budget + tc.budget*detectorOverhead/100
			t.Logf("%d bytes each, of %d in the budget", last, budget)
			if last > budget {
				t.Errorf("%d bytes each, but the budget counts %d", last, budget)
			}
		})
	}
}
