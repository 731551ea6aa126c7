//go:build integration

package destination

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// Actions of a policy that suffices for backups, and of one that suffices for Sweep.
var (
	forBackups = []string{"s3:PutObject", "s3:GetObject", "s3:ListBucket"}
	forReading = []string{"s3:GetObject", "s3:ListBucket"}
)

// opened is a bucket of a test, with small parts.
type opened struct {
	address, caFile, credentials, path string
}

func (o opened) open(t *testing.T) *bucket {
	t.Helper()
	d, err := New(config.Destination{ObjectStore: &config.ObjectStore{
		URL: "https://" + o.address + "/" + o.path, CredentialsDirectory: o.credentials, CAFile: o.caFile,
	}})
	if err != nil {
		t.Fatal(err)
	}
	b := d.(*bucket)
	b.partSize = testPart
	return b
}

// unfinished returns how many uploads a bucket has that are not finished.
func unfinished(t *testing.T, s *testenv.ObjectStore, name string) int {
	t.Helper()
	n := 0
	for upload := range s.Client(t).ListIncompleteUploads(t.Context(), name, "", true) {
		if upload.Err != nil {
			t.Fatal(upload.Err)
		}
		n++
	}
	return n
}

// TestBucket runs the tests that share a server, each with a bucket of its own.
func TestBucket(t *testing.T) {
	t.Parallel()
	s := testenv.StartObjectStore(t)
	var buckets atomic.Int64
	// fresh creates a bucket that backups can use.
	fresh := func(t *testing.T) opened {
		t.Helper()
		name := fmt.Sprintf("backups-%d", buckets.Add(1))
		s.CreateBucket(t, name)
		return opened{address: s.Address, caFile: s.CAFile, credentials: s.RootCredentials(t), path: name}
	}

	for name, suffix := range map[string]string{"conforms": "?region=us-east-1", "conforms below a prefix without a region": "/of/one"} {
		t.Run(name, func(t *testing.T) {
			conforms(t, func(t *testing.T) (Destination, func(string)) {
				o := fresh(t)
				name := o.path
				o.path += suffix
				b := o.open(t)
				return b, func(foreign string) {
					put(t, s, name, b.prefix+foreign)
					put(t, s, name, b.prefix+"below/"+archiveName(firstID))
					put(t, s, name, "elsewhere/"+archiveName(firstID))
				}
			})
		})
	}

	t.Run("credentials that may only put, get and list suffice", func(t *testing.T) {
		o := fresh(t)
		o.credentials = s.Credentials(t, o.path, forBackups...)
		b := o.open(t)
		for name, size := range map[string]int{archiveName(firstID): 2*testPart + 1, archiveName(secondID): 10, manifestName(firstID): 10} {
			want := content(size)
			create(t, b, name, want)
			if !bytes.Equal(read(t, b, name), want) {
				t.Errorf("%s came back with other bytes", name)
			}
		}
		if got := list(t, b); len(got) != 3 {
			t.Errorf("it lists %q", got)
		}
		n, err := b.Sweep(t.Context(), inAnHour())
		if n != 0 || !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), archiveName(secondID)) {
			t.Errorf("Sweep: got %d, %v, want %v with the name of the file", n, err, ErrDenied)
		}
		if got := list(t, b); len(got) != 3 {
			t.Errorf("after the sweep it lists %q", got)
		}
		refused(t, b.Delete(t.Context(), archiveName(secondID)), ErrDenied, "delete "+archiveName(secondID), "AccessDenied", "s3:DeleteObject", "backup.keep")
		if got := list(t, b); len(got) != 3 {
			t.Errorf("after the deletion it lists %q", got)
		}
		o.credentials = s.Credentials(t, o.path, append(slices.Clone(forBackups), "s3:DeleteObject")...)
		b = o.open(t)
		if err := b.Delete(t.Context(), archiveName(secondID)); err != nil {
			t.Error(err)
		}
		if got := list(t, b); len(got) != 2 {
			t.Errorf("with the right to delete it lists %q", got)
		}
	})

	t.Run("credentials that may only read", func(t *testing.T) {
		o := fresh(t)
		create(t, o.open(t), archiveName(firstID), content(10))
		o.credentials = s.Credentials(t, o.path, forReading...)
		b := o.open(t)
		for _, size := range []int{10, testPart + 1} {
			err := b.Create(t.Context(), archiveName(secondID), bytes.NewReader(content(size)))
			refused(t, err, ErrDenied, "AccessDenied", archiveName(secondID), "s3:PutObject")
		}
		if got := read(t, b, archiveName(firstID)); len(got) != 10 || len(list(t, b)) != 1 {
			t.Errorf("got %d bytes of %q", len(got), list(t, b))
		}
	})

	t.Run("what is refused", func(t *testing.T) {
		o := fresh(t)
		noKey, noSecret, noFiles := t.TempDir(), t.TempDir(), t.TempDir()
		writeKeys(t, noKey, "access-key-id", "another-key", "secret-access-key", "another-secret")
		writeKeys(t, noSecret, "access-key-id", "test-only-root", "secret-access-key", "another-secret")
		for name, tc := range map[string]struct {
			change func(*opened)
			class  error
			want   []string
		}{
			"a key that the server does not know": {func(o *opened) { o.credentials = noKey }, ErrDenied, []string{"InvalidAccessKeyId", "check the access key"}},
			"a secret key that is wrong":          {func(o *opened) { o.credentials = noSecret }, ErrDenied, []string{"SignatureDoesNotMatch", "check the access key"}},
			"no credentials":                      {func(o *opened) { o.credentials = noFiles }, ErrDenied, []string{"access-key-id", "check the Secret"}},
			"a bucket that does not exist":        {func(o *opened) { o.path = "no-such-bucket" }, ErrNotFound, []string{"NoSuchBucket", "create the bucket"}},
			"another CA":                          {func(o *opened) { o.caFile = testenv.NewCertificate(t, t.TempDir()).CertFile }, nil, []string{"certificate", "CA certificates"}},
			"no server":                           {func(o *opened) { o.address = testenv.FreeAddress(t) }, ErrUnavailable, []string{"connection refused", "try again"}},
		} {
			t.Run(name, func(t *testing.T) {
				o := o
				o.path += "?region=us-east-1"
				tc.change(&o)
				b := o.open(t)
				_, _, openErr := b.Open(t.Context(), archiveName(firstID))
				_, listErr := b.List(t.Context())
				_, sweepErr := b.Sweep(t.Context(), inAnHour())
				for what, err := range map[string]error{
					"Create": b.Create(t.Context(), archiveName(firstID), bytes.NewReader(content(10))),
					"Open":   openErr, "List": listErr, "Sweep": sweepErr, "Delete": b.Delete(t.Context(), archiveName(firstID)),
				} {
					want := tc.want
					if what == "Create" && errors.Is(tc.class, ErrDenied) && o.credentials != noFiles {
						want = []string{"AccessDenied"} // a HEAD has no answer with the code
					}
					t.Run(what, func(t *testing.T) { refused(t, err, tc.class, append(want, o.address)...) })
				}
			})
		}
	})

	t.Run("an upload that is cancelled is aborted", func(t *testing.T) {
		o := fresh(t)
		ctx, cancel := context.WithCancel(t.Context())
		started := 0
		err := o.open(t).Create(ctx, archiveName(firstID), io.MultiReader(bytes.NewReader(content(testPart+1)), calling(func() {
			started = unfinished(t, s, o.path)
			cancel()
		})))
		if !errors.Is(err, context.Canceled) || started != 1 {
			t.Fatalf("got %v with %d uploads, want %v with one", err, started, context.Canceled)
		}
		if got := unfinished(t, s, o.path); got != 0 {
			t.Errorf("%d unfinished uploads are left", got)
		}
	})

	t.Run("a file with too many parts", func(t *testing.T) {
		o := fresh(t)
		b := o.open(t)
		b.maxParts = 2
		create(t, b, archiveName(firstID), content(2*testPart))
		err := b.Create(t.Context(), archiveName(secondID), bytes.NewReader(content(2*testPart+1)))
		refused(t, err, nil, "more than 10485760 bytes", "use a directory")
		if got := unfinished(t, s, o.path); got != 0 {
			t.Errorf("%d unfinished uploads are left", got)
		}
	})

	t.Run("keys that are replaced during an upload", func(t *testing.T) {
		o := fresh(t)
		o.credentials = s.Credentials(t, o.path, forBackups...)
		b := o.open(t)
		want := content(2*testPart + 1)
		next := s.RootCredentials(t)
		err := b.Create(t.Context(), archiveName(firstID), io.MultiReader(bytes.NewReader(want[:testPart]), calling(func() {
			for _, file := range []string{"access-key-id", "secret-access-key"} {
				raw, err := os.ReadFile(filepath.Join(next, file))
				if err != nil {
					t.Error(err)
				}
				writeKeys(t, o.credentials, file, string(raw))
			}
			// The account that started the upload may do nothing now.
			s.Credentials(t, o.path, forReading...)
		}), bytes.NewReader(want[testPart:])))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, b, archiveName(firstID)), want) {
			t.Error("the file came back with other bytes")
		}
	})

	t.Run("a connection that is cut", func(t *testing.T) {
		o := fresh(t)
		link := testenv.NewLink(t, s.Address)
		o.address = link.Address()
		o.path += "?region=us-east-1"
		b := o.open(t)
		want := content(2*testPart + 1)
		cut := calling(func() { link.LoseAnswer(1) })
		err := b.Create(t.Context(), archiveName(firstID), io.MultiReader(bytes.NewReader(want[:testPart]), cut, bytes.NewReader(want[testPart:])))
		if err != nil || !link.Lost() {
			t.Fatalf("got %v, and the connection was cut: %t", err, link.Lost())
		}
		if !bytes.Equal(read(t, b, archiveName(firstID)), want) {
			t.Error("the file came back with other bytes")
		}
		r, _, err := b.Open(t.Context(), archiveName(firstID))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		link.LoseAnswer(2)
		_, err = io.Copy(io.Discard, r)
		refused(t, err, ErrUnavailable, archiveName(firstID))
	})

	t.Run("a server that stops answering", func(t *testing.T) {
		o := fresh(t)
		link := testenv.NewLink(t, s.Address)
		o.address = link.Address()
		b := o.open(t)
		create(t, b, archiveName(firstID), content(10)) // the connection works
		b.idle = 300 * time.Millisecond
		for name, hold := range map[string]func() (release func()){"or reading": link.HoldRequests, "only": link.Hold} {
			t.Run(name, func(t *testing.T) {
				defer hold()()
				err := b.Create(t.Context(), archiveName(secondID), bytes.NewReader(content(testPart+1)))
				refused(t, err, ErrUnavailable, "no byte was transferred for 300ms", archiveName(secondID))
			})
		}
	})

	t.Run("answers of a server", func(t *testing.T) { answers(t, s, fresh) })
}

// answers are tests with a proxy that answers some requests itself.
func answers(t *testing.T, s *testenv.ObjectStore, fresh func(t *testing.T) opened) {
	t.Helper()
	// isPublishing is true for the requests that make a file visible.
	isPublishing := func(r *http.Request) bool {
		return r.Method == http.MethodPost && r.URL.Query().Has("uploadId") || r.Method == http.MethodPut && !r.URL.Query().Has("uploadId")
	}
	isWriting := func(r *http.Request) bool { return r.Method == http.MethodPut || r.Method == http.MethodPost }
	fails := func(status int, code string) func(http.Handler, http.ResponseWriter, *http.Request) {
		return func(_ http.Handler, w http.ResponseWriter, _ *http.Request) { s3Error(w, status, code) }
	}
	for name, tc := range map[string]struct {
		// matches chooses the requests that answer answers: all of them, or the first.
		matches func(r *http.Request) bool
		answer  func(server http.Handler, w http.ResponseWriter, r *http.Request)
		once    bool
		// works is true if Create succeeds in the end. Otherwise class and want are of its error.
		works bool
		class error
		want  []string
	}{
		"it is busy for a while": {matches: isWriting, answer: fails(http.StatusServiceUnavailable, "SlowDown"), once: true, works: true},
		"it is busy": {
			matches: isWriting, answer: fails(http.StatusServiceUnavailable, "SlowDown"), class: ErrUnavailable, want: []string{"SlowDown", "try again"},
		},
		"it does not know If-None-Match": {
			matches: func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" },
			answer:  fails(http.StatusNotImplemented, "NotImplemented"), works: true,
		},
		"its answer to the last request is lost": {
			matches: isPublishing, once: true, works: true,
			answer: func(server http.Handler, _ http.ResponseWriter, r *http.Request) {
				server.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler) // the connection ends
			},
		},
		"it repeats the credentials in its error": {
			matches: isWriting,
			answer: func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
				s3Error(w, http.StatusForbidden, r.Header.Get("Authorization"))
			},
			class: ErrDenied, want: []string{"HTTP status 403"},
		},
		"it wants another region": {
			matches: isWriting, answer: fails(http.StatusBadRequest, "AuthorizationHeaderMalformed"), want: []string{"AuthorizationHeaderMalformed", "its region"},
		},
	} {
		for size, kind := range map[int]string{10: "a small file", testPart + 1: "parts"} {
			t.Run(name+" with "+kind, func(t *testing.T) {
				o := fresh(t)
				through := o
				var answered atomic.Bool
				through.address, through.caFile = interceptor(t, s, func(server http.Handler, w http.ResponseWriter, r *http.Request) {
					if !tc.matches(r) || answered.Swap(true) && tc.once {
						server.ServeHTTP(w, r)
						return
					}
					tc.answer(server, w, r)
				})
				through.path += "?region=us-east-1"
				want := content(size)
				err := through.open(t).Create(t.Context(), archiveName(firstID), bytes.NewReader(want))
				if !answered.Load() {
					t.Error("no request was intercepted")
				}
				if got := unfinished(t, s, o.path); got != 0 {
					t.Errorf("%d unfinished uploads are left", got)
				}
				if !tc.works {
					refused(t, err, tc.class, tc.want...)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				refused(t, through.open(t).Create(t.Context(), archiveName(firstID), strings.NewReader("other")), ErrExists, "never overwritten")
				if !bytes.Equal(read(t, o.open(t), archiveName(firstID)), want) {
					t.Error("the file came back with other bytes")
				}
			})
		}
	}
}

// interceptor starts a server that calls answer with a handler that forwards requests to s. It
// returns its address and its CA.
func interceptor(t *testing.T, s *testenv.ObjectStore, answer func(server http.Handler, w http.ResponseWriter, r *http.Request)) (address, caFile string) {
	t.Helper()
	raw, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	// The host of the request is signed, and stays.
	forward := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "https", Host: s.Address})
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(forward, w, r) }))
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return server.Listener.Addr().String(), caFile
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

// put stores an object as another program would.
func put(t *testing.T, s *testenv.ObjectStore, bucket, key string) {
	t.Helper()
	if _, err := s.Client(t).PutObject(t.Context(), bucket, key, strings.NewReader("foreign"), 7, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
}

// refused checks the class and the text of an error, which must contain no credentials.
func refused(t *testing.T, err, class error, texts ...string) {
	t.Helper()
	if err == nil || !errors.Is(classOf(err), class) {
		t.Errorf("got %v, want the class %v", err, class)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q in it", err, text)
		}
	}
	for _, secret := range []string{"test-only-root", "test-only-secret", "another-key", "another-secret", "AWS4-HMAC-SHA256", "Signature="} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%v contains a credential", err)
		}
	}
}

// TestBucketOnAFullDisk checks that a server without space leaves no file.
func TestBucketOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := testenv.StartObjectStoreIn(t, testenv.SmallFilesystem(t, 3*testPart))
	s.CreateBucket(t, "backups")
	o := opened{address: s.Address, caFile: s.CAFile, credentials: s.RootCredentials(t), path: "backups"}
	b := o.open(t)
	err := b.Create(t.Context(), archiveName(firstID), bytes.NewReader(content(4*testPart)))
	refused(t, err, ErrFull, "delete old backups or raise the quota", archiveName(firstID))
	if got := list(t, b); len(got) != 0 || unfinished(t, s, "backups") != 0 {
		t.Errorf("it lists %q, and has %d unfinished uploads", got, unfinished(t, s, "backups"))
	}
	create(t, b, archiveName(secondID), content(10))
}

// TestBucketServerEnds checks an upload whose server ends, and the sweep of what it left.
func TestBucketServerEnds(t *testing.T) {
	t.Parallel()
	s := testenv.StartObjectStore(t)
	s.CreateBucket(t, "backups")
	b := opened{address: s.Address, caFile: s.CAFile, credentials: s.RootCredentials(t), path: "backups"}.open(t)
	create(t, b, archiveName(firstID), content(10))
	err := b.Create(t.Context(), archiveName(secondID), io.MultiReader(bytes.NewReader(content(testPart+1)), calling(func() { s.Stop(t) }), bytes.NewReader(content(testPart))))
	refused(t, err, ErrUnavailable, archiveName(secondID))
	s.Start(t)
	if got := list(t, b); len(got) != 1 || unfinished(t, s, "backups") != 1 {
		t.Fatalf("it lists %q, and has %d unfinished uploads, want the first file and one", got, unfinished(t, s, "backups"))
	}
	create(t, b, manifestName(firstID), content(10))
	if n, err := b.Sweep(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("a sweep of what is an hour old: got %d, %v, want nothing", n, err)
	}
	if n, err := b.Sweep(t.Context(), inAnHour()); n != 1 || err != nil {
		t.Errorf("Sweep: got %d, %v, want one upload", n, err)
	}
	if got := list(t, b); len(got) != 2 || unfinished(t, s, "backups") != 0 {
		t.Errorf("after the sweep it lists %q, and has %d unfinished uploads", got, unfinished(t, s, "backups"))
	}
}

// TestBucketMemory checks that an upload reuses the memory of its parts. It does not run in
// parallel, because it measures the whole process.
func TestBucketMemory(t *testing.T) {
	s := testenv.StartObjectStore(t)
	s.CreateBucket(t, "backups")
	b := opened{address: s.Address, caFile: s.CAFile, credentials: s.RootCredentials(t), path: "backups"}.open(t)
	const parts = 8
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := b.Create(t.Context(), archiveName(firstID), io.LimitReader(zeros{}, parts*testPart)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > parts/2*testPart {
		t.Errorf("an upload of %d parts of %d bytes allocated %d bytes, want less than half of them", parts, testPart, got)
	}
}
