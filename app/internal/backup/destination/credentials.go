package destination

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// credentialsError is the failure to get credentials. Its text contains none.
type credentialsError struct {
	class, cause error
	next         string
}

// Error returns the cause.
func (e *credentialsError) Error() string { return e.cause.Error() }

// keyFiles are the credentials in the files of a directory, such as a mounted Secret. They are read
// for every request, so that replaced ones are used at once.
type keyFiles struct{ directory string }

// maxKeyFile bounds a file with a part of the credentials.
const maxKeyFile = 16 << 10

// attemptsToRead bounds how often the files are read until they do not change.
const attemptsToRead = 5

// IsExpired always returns true, so that the files are read again.
func (k *keyFiles) IsExpired() bool { return true }

// Retrieve reads the files.
func (k *keyFiles) Retrieve() (credentials.Value, error) { return k.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext reads the files until two readings are equal, so that it does not mix
// two versions of them.
func (k *keyFiles) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	var last credentials.Value
	for range attemptsToRead {
		read, err := k.read()
		if err != nil {
			return credentials.Value{}, &credentialsError{class: ErrDenied, cause: err,
				next: "check the Secret with the destination's credentials"}
		}
		if read == last {
			return read, nil
		}
		last = read
	}
	return credentials.Value{}, &credentialsError{class: ErrUnavailable,
		cause: fmt.Errorf("the credentials in %s change while they are read", k.directory), next: "try again"}
}

func (k *keyFiles) read() (credentials.Value, error) {
	v := credentials.Value{SignerType: credentials.SignatureV4}
	for _, file := range []struct {
		name     string
		value    *string
		optional bool
	}{
		{"access-key-id", &v.AccessKeyID, false},
		{"secret-access-key", &v.SecretAccessKey, false},
		{"session-token", &v.SessionToken, true},
	} {
		value, err := readKeyFile(filepath.Join(k.directory, file.name))
		if file.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return v, err
		}
		*file.value = value
	}
	return v, nil
}

func readKeyFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(raw))
	if value == "" || len(raw) > maxKeyFile || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s must hold one word of printable ASCII and at most %d bytes", path, maxKeyFile)
	}
	return value, nil
}

// identityVariables are set in a pod whose service account has a role at AWS, by IAM roles for
// service accounts and by EKS Pod Identity.
var identityVariables = []string{"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}

// identityTimeout bounds a request for credentials.
const identityTimeout = time.Minute

// webIdentity gets the credentials of the pod's service account.
type webIdentity struct{ credentials.IAM }

// newWebIdentity rejects a pod without an identity. Otherwise [credentials.IAM] would ask for the
// credentials of the node, which are nobody's to use.
func newWebIdentity(region string) (*webIdentity, error) {
	for _, variable := range identityVariables {
		if os.Getenv(variable) != "" {
			return &webIdentity{credentials.IAM{Region: region, Client: &http.Client{Timeout: identityTimeout}}}, nil
		}
	}
	return nil, errors.New("the destination has no credentials, and the pod has no web identity: name a Secret with an access key, or give the service account a role")
}

// Retrieve gets credentials.
func (w *webIdentity) Retrieve() (credentials.Value, error) { return w.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext gets credentials.
func (w *webIdentity) RetrieveWithCredContext(c *credentials.CredContext) (credentials.Value, error) {
	value, err := w.IAM.RetrieveWithCredContext(c)
	if err == nil {
		return value, nil
	}
	e := &credentialsError{class: ErrUnavailable, cause: fmt.Errorf("get credentials for the service account: %w", transportCause(err)),
		next: "try again, and check that the pod reaches its provider of credentials"}
	var refusal credentials.ErrorResponse
	if errors.As(err, &refusal) {
		e.class = ErrDenied
		e.cause = fmt.Errorf("get credentials for the service account: %s", errorCode(refusal.STSError.Code, 0))
		e.next = "check the role of the service account, and its trust policy"
	}
	return credentials.Value{}, e
}
