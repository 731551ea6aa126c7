//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"testing"
)

// connection is a client's connection, HTTP/1.1 over TLS 1.3. Like pgbench it uses little processor
// time, because the service shares the processors with its clients. The client of hack/notesclient
// would use several times as much.
type connection struct {
	conn   *tls.Conn
	reader *textproto.Reader
	body   []byte
}

func connect(t *testing.T, address string, pool *x509.CertPool) *connection {
	t.Helper()
	c, err := dial(address, pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

func dial(address string, pool *x509.CertPool) (*connection, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{}, "tcp", address, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		return nil, err
	}
	return &connection{conn: conn, reader: textproto.NewReader(bufio.NewReader(conn))}, nil
}

// request returns the bytes of a request.
func request(method, path, token, body string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nContent-Type: application/json\r\n", method, path, len(body))
	if token != "" {
		fmt.Fprintf(&out, "Authorization: Bearer %s\r\n", token)
	}
	out.WriteString("\r\n" + body)
	return out.Bytes()
}

// do sends a request and returns the body of the answer, which is valid until the next call. It
// returns an error if the status is not want.
func (c *connection) do(request []byte, want int) ([]byte, error) {
	if _, err := c.conn.Write(request); err != nil {
		return nil, err
	}
	line, err := c.reader.ReadLineBytes()
	if err != nil {
		return nil, err
	}
	_, status, _ := bytes.Cut(line, []byte(" "))
	ok := bytes.HasPrefix(status, fmt.Appendf(nil, "%d ", want))
	length := -1
	for {
		header, err := c.reader.ReadLineBytes()
		if err != nil {
			return nil, err
		}
		if len(header) == 0 {
			break
		}
		if value, found := bytes.CutPrefix(header, []byte("Content-Length: ")); found {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 {
		return nil, fmt.Errorf("%s: an answer without a length", line)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.reader.R, c.body); err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %s", line, c.body)
	}
	return c.body, nil
}
