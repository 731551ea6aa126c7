//go:build bench

package bench

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/securenotes/securenotes/hack/poll"
	"github.com/securenotes/securenotes/hack/testenv"
)

// flaskPrograms are the programs that the Flask peer needs, from the Debian packages gunicorn,
// python3-flask, python3-jwt and python3-cryptography.
var flaskPrograms = []string{"/usr/bin/gunicorn", "/usr/lib/python3/dist-packages/flask", "/usr/lib/python3/dist-packages/jwt"}

// flaskInstalled reports whether the Flask peers can be measured.
func flaskInstalled() bool {
	for _, program := range flaskPrograms {
		if _, err := os.Stat(program); err != nil {
			return false
		}
	}
	return true
}

// flaskReads measures reading a note from a Flask service with TLS: under gunicorn with a worker
// for each processor, or with Flask's own server, which closes the connection after each answer.
func flaskReads(t *testing.T, ownServer bool) measured {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	secret := rand.Text()
	certificate := testenv.NewCertificate(t, t.TempDir())
	address := testenv.FreeAddress(t)
	directory, err := filepath.Abs("peer")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("/usr/bin/gunicorn", "--chdir", directory, "--bind", address, "--workers", strconv.Itoa(runtime.NumCPU()),
		"--worker-class", "gthread", "--threads", strconv.Itoa(concurrency), "--keep-alive", "60",
		"--certfile", certificate.CertFile, "--keyfile", certificate.KeyFile, "flask_app:app")
	if ownServer {
		server = exec.Command("/usr/bin/python3", filepath.Join(directory, "flask_app.py"))
	}
	server.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PEER_PORT="+port, "PEER_CERT="+certificate.CertFile,
		"PEER_KEY_FILE="+certificate.KeyFile, "PEER_KEY="+base64.StdEncoding.EncodeToString(key), "PEER_JWT_SECRET="+secret, "PEER_NOTE_SIZE="+strconv.Itoa(noteSize))
	server.Stdout, server.Stderr = io.Discard, io.Discard
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	})
	poll.Eventually(t, time.Minute, "Flask to answer", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	encode := base64.RawURLEncoding.EncodeToString
	token := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(`{"username":"alice"}`))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(token))
	read := request("GET", "/api/notes/1", token+"."+encode(mac.Sum(nil)), "")
	if ownServer {
		return measure(t, concurrency, func(_, _ int) error {
			c, err := dial(address, certificate.Pool)
			if err != nil {
				return err
			}
			defer c.conn.Close()
			_, err = c.do(read, 200)
			return err
		})
	}
	connections := make([]*connection, concurrency)
	for client := range connections {
		connections[client] = connect(t, address, certificate.Pool)
	}
	return measure(t, concurrency, func(client, _ int) error {
		_, err := connections[client].do(read, 200)
		return err
	})
}
