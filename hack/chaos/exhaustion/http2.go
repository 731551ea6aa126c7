package exhaustion

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/time/rate"
)

// session is an HTTP/2 connection whose client writes the frames itself.
type session struct {
	net.Conn
	*h2.Framer

	mu     sync.Mutex // guards writes
	stream uint32
}

// dialHTTP2 connects and sends the client's preface. The caller must close the session.
func (c *crowd) dialHTTP2(ctx context.Context, i int, settings ...h2.Setting) (*session, error) {
	conn, err := c.dialTLS(ctx, i, http2, 0)
	if err != nil {
		return nil, err
	}
	s := &session{Conn: conn, Framer: h2.NewFramer(conn, conn), stream: 1}
	if _, err := conn.Write([]byte(h2.ClientPreface)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := s.WriteSettings(settings...); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// open starts a request. The caller must hold mu if others write, too.
func (s *session) open(endHeaders, endStream bool, fields ...hpack.HeaderField) (stream uint32, err error) {
	stream = s.stream
	s.stream += 2
	return stream, s.WriteHeaders(h2.HeadersFrameParam{
		StreamID: stream, BlockFragment: block(fields), EndHeaders: endHeaders, EndStream: endStream,
	})
}

// block encodes fields without the dynamic table, so that each block is self-contained.
func block(fields []hpack.HeaderField) []byte {
	var out bytes.Buffer
	encoder := hpack.NewEncoder(&out)
	encoder.SetMaxDynamicTableSize(0)
	for _, f := range fields {
		_ = encoder.WriteField(f) // writing to a buffer cannot fail
	}
	return out.Bytes()
}

func request(method, path, token string) []hpack.HeaderField {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "localhost"}, {Name: ":path", Value: path},
	}
	if token != "" {
		fields = append(fields, hpack.HeaderField{Name: "authorization", Value: "Bearer " + token})
	}
	return fields
}

// unknownFrame is a frame type that no RFC defines. A server must read and ignore such frames.
const unknownFrame = 0xfe

// largeFrames announces a frame and sends all of it except the last byte.
func largeFrames(length uint32, clients int) func(context.Context, *crowd) {
	frame := make([]byte, 9+length-1)
	binary.BigEndian.PutUint32(frame, length<<8|unknownFrame)
	return func(ctx context.Context, c *crowd) {
		c.each(ctx, clients, func(ctx context.Context, i int) error {
			s, err := c.dialHTTP2(ctx, i)
			if err != nil {
				return err
			}
			defer s.Close()
			if _, err := s.Write(frame); err != nil {
				return err
			}
			return untilClosed(s)
		})
	}
}

// unread returns a request whose answer the server has to keep while the client does not read it.
func (c *crowd) unread(i int) []hpack.HeaderField {
	lister := c.target.Accounts.Listers[i%len(c.target.Accounts.Listers)]
	writer := c.target.Accounts.Writers[i%len(c.target.Accounts.Writers)]
	requests := [][]hpack.HeaderField{
		request("GET", listPath, lister.Token), request("GET", "/api/notes/"+writer.Note, writer.Token),
		request("GET", "/docs", ""), request("GET", "/api/openapi.yaml", ""),
		request("GET", listPath, ""), request("GET", "/nowhere", ""), // 401 and 404
	}
	return requests[i/addresses%len(requests)]
}

// streams is how many requests of one connection wait for a flow-control window. A server that
// allows fewer resets the others.
const streams = 250

// closedWindows requests answers with a flow-control window of zero.
func closedWindows(ctx context.Context, c *crowd) {
	c.each(ctx, 96, func(ctx context.Context, i int) error {
		s, err := c.dialHTTP2(ctx, i, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			return err
		}
		defer s.Close()
		return s.keepOpen(ctx, streams, 20, func() error {
			_, err := s.open(true, true, c.unread(i)...)
			return err
		})
	})
}

// keepOpen keeps n streams open, and opens at most perSecond of them a second.
func (s *session) keepOpen(ctx context.Context, n int, perSecond rate.Limit, open func() error) error {
	places := make(chan struct{}, n)
	for range n {
		places <- struct{}{}
	}
	closed := make(chan error, 1)
	go func() { closed <- s.read(places) }()
	pace := rate.NewLimiter(perSecond, n/2)
	for {
		select {
		case err := <-closed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-places:
		}
		if err := pace.Wait(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		err := open()
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// read adds a place for each stream that the server has ended, until the connection is closed.
func (s *session) read(places chan<- struct{}) error {
	for {
		frame, err := s.ReadFrame()
		if err != nil {
			return err
		}
		ended := frame.Header().Type == h2.FrameRSTStream
		switch f := frame.(type) {
		case *h2.SettingsFrame:
			if !f.IsAck() {
				s.mu.Lock()
				err = s.WriteSettingsAck()
				s.mu.Unlock()
			}
		case *h2.HeadersFrame:
			ended = f.StreamEnded()
		case *h2.DataFrame:
			ended = f.StreamEnded()
		}
		if err != nil {
			return err
		}
		if ended {
			select {
			case places <- struct{}{}:
			default: // the place was never taken
			}
		}
	}
}

// frameFloods sends frames that make the server answer, or discard, as much as possible.
func frameFloods(ctx context.Context, c *crowd) {
	reset := func(s *session) error {
		stream, err := s.open(true, true, request("GET", "/api/openapi.yaml", "")...)
		if err != nil {
			return err
		}
		return s.WriteRSTStream(stream, h2.ErrCodeCancel)
	}
	ping := func(s *session) error { return s.WritePing(false, [8]byte{}) }
	settings := func(s *session) error {
		return s.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 16})
	}
	// If a client reads nothing, the answers stay in the server's buffers.
	floods := []struct {
		write func(*session) error
		reads bool
	}{{reset, true}, {reset, false}, {ping, true}, {ping, false}, {settings, true}, {settings, false}}
	c.each(ctx, 6*len(floods), func(ctx context.Context, i int) error {
		s, err := c.dialHTTP2(ctx, i)
		if err != nil {
			return err
		}
		defer s.Close()
		flood := floods[i%len(floods)]
		if flood.reads {
			go func() { _ = untilClosed(s) }()
		}
		for pace := rate.NewLimiter(500, 100); pace.Wait(ctx) == nil; {
			_ = s.SetWriteDeadline(time.Now().Add(5 * time.Second))
			if err := flood.write(s); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}
