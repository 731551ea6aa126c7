package testenv

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// The root account of a server that listens on loopback for one test.
const (
	objectStoreKey    = "test-only-root"
	objectStoreSecret = "test-only-root-secret"
)

// ObjectStore is a running S3 server with TLS, versitygw. It stores objects as files.
type ObjectStore struct {
	// Address is host:port, and the URL of a bucket is https://Address/BUCKET.
	Address string
	// CAFile verifies its certificate.
	CAFile string

	dir, objects string
	certificate  *Certificate
	accounts     map[string]objectStoreAccount
	server       *process
}

// objectStoreAccount is an account in the server's file of accounts.
type objectStoreAccount struct {
	Access string `json:"access"`
	Secret string `json:"secret"`
	Role   string `json:"role"`
}

// StartObjectStore starts a server that stores its objects in a directory of the test.
func StartObjectStore(t testing.TB) *ObjectStore {
	t.Helper()
	return StartObjectStoreIn(t, t.TempDir())
}

// StartObjectStoreIn starts a server that stores its objects in a directory, and everything else in
// one of the test.
func StartObjectStoreIn(t testing.TB, objects string) *ObjectStore {
	t.Helper()
	s := &ObjectStore{
		Address: FreeAddress(t), dir: t.TempDir(), objects: objects,
		accounts: map[string]objectStoreAccount{},
	}
	s.certificate = NewCertificate(t, s.dir)
	s.CAFile = s.certificate.CertFile
	for _, name := range []string{"accounts", "attributes"} {
		if err := os.Mkdir(filepath.Join(s.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.writeAccounts(t)
	s.Start(t)
	return s
}

// Start restarts the server after Stop.
func (s *ObjectStore) Start(t testing.TB) {
	t.Helper()
	command := exec.Command(binary(t, ObjectStoreVariable), "--port", s.Address, "--cert", s.certificate.CertFile, "--key", s.certificate.KeyFile,
		"--iam-dir", filepath.Join(s.dir, "accounts"), "--iam-cache-disable", "--quiet", "--keep-alive",
		"posix", "--sidecar", filepath.Join(s.dir, "attributes"), s.objects)
	command.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+objectStoreKey, "ROOT_SECRET_KEY="+objectStoreSecret)
	// Its orderly end would wait for the clients' idle connections.
	s.server = start(t, s.dir, "versitygw", syscall.SIGKILL, command)
	client := s.Client(t)
	s.server.await(t, func(ctx context.Context) error {
		_, err := client.ListBuckets(ctx)
		return err
	})
}

// Stop ends the server at once, with the connections that are open.
func (s *ObjectStore) Stop(t testing.TB) {
	t.Helper()
	s.server.stop(t, syscall.SIGKILL)
}

// Client returns a client of the root account.
func (s *ObjectStore) Client(t testing.TB) *minio.Client {
	t.Helper()
	transport, err := minio.DefaultTransport(true)
	if err != nil {
		t.Fatal(err)
	}
	transport.TLSClientConfig.RootCAs = s.certificate.Pool
	t.Cleanup(transport.CloseIdleConnections)
	client, err := minio.New(s.Address, &minio.Options{
		Creds: credentials.NewStaticV4(objectStoreKey, objectStoreSecret, ""), Secure: true, Transport: transport, MaxRetries: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// CreateBucket creates a bucket.
func (s *ObjectStore) CreateBucket(t testing.TB, name string) {
	t.Helper()
	if err := s.Client(t).MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatalf("create bucket %s: %v", name, err)
	}
}

// RootCredentials returns a directory with the credentials of the root account, in the files of a
// destination's Secret.
func (s *ObjectStore) RootCredentials(t testing.TB) string {
	t.Helper()
	return keyFiles(t, objectStoreKey, objectStoreSecret)
}

// Credentials creates an account that may only do some actions in a bucket, such as s3:PutObject,
// and returns a directory with its credentials. It replaces the policy of the bucket.
func (s *ObjectStore) Credentials(t testing.TB, bucket string, actions ...string) string {
	t.Helper()
	name := fmt.Sprintf("account-%d", len(s.accounts)+1)
	s.accounts[name] = objectStoreAccount{Access: name, Secret: "test-only-secret-of-" + name, Role: "user"}
	s.writeAccounts(t)
	policy, err := json.Marshal(map[string]any{
		"Version": "2012-10-17",
		"Statement": []any{map[string]any{
			"Effect": "Allow", "Principal": map[string]any{"AWS": []string{name}}, "Action": actions,
			"Resource": []string{"arn:aws:s3:::" + bucket, "arn:aws:s3:::" + bucket + "/*"},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Client(t).SetBucketPolicy(t.Context(), bucket, string(policy)); err != nil {
		t.Fatalf("policy of bucket %s: %v", bucket, err)
	}
	return keyFiles(t, name, s.accounts[name].Secret)
}

// writeAccounts writes the file of accounts, which the server reads for each request.
func (s *ObjectStore) writeAccounts(t testing.TB) {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"accessAccounts": s.accounts})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "accounts", "users.json")
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// keyFiles writes credentials as a mounted Secret has them.
func keyFiles(t testing.TB, key, secret string) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range map[string]string{"access-key-id": key, "secret-access-key": secret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// SmallFilesystem mounts a file system in memory with room for so many bytes, until the test ends.
// Only root may.
func SmallFilesystem(t testing.TB, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		t.Fatalf("mount a small file system, for which the test must run as root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}
