package destination

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/securenotes/securenotes/app/config"
)

// writeKeys writes a file for each pair of a name and a value.
func writeKeys(t *testing.T, dir string, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if err := os.WriteFile(filepath.Join(dir, pairs[i]), []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKeyFilesAreReadForEachRequest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeKeys(t, dir, "access-key-id", "first\n", "secret-access-key", "first-secret\n")
	keys := credentials.New(&keyFiles{dir})
	for _, want := range []credentials.Value{
		{AccessKeyID: "first", SecretAccessKey: "first-secret", SignerType: credentials.SignatureV4},
		{AccessKeyID: "second", SecretAccessKey: "second-secret", SessionToken: "token", SignerType: credentials.SignatureV4},
	} {
		got, err := keys.GetWithContext(nil)
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		writeKeys(t, dir, "access-key-id", "second", "secret-access-key", "second-secret", "session-token", "token\n")
	}
}

func TestKeyFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	const secret = "do-not-print"
	for name, tc := range map[string]struct {
		files []string
		want  string
	}{
		"no secret key":      {[]string{"access-key-id", secret}, "secret-access-key"},
		"an empty file":      {[]string{"access-key-id", "", "secret-access-key", secret}, "access-key-id"},
		"two lines":          {[]string{"access-key-id", secret + "\n" + secret, "secret-access-key", secret}, "access-key-id"},
		"too long":           {[]string{"access-key-id", secret, "secret-access-key", strings.Repeat(secret, maxKeyFile)}, "secret-access-key"},
		"an empty token":     {[]string{"access-key-id", secret, "secret-access-key", secret, "session-token", "\n"}, "session-token"},
		"a control sequence": {[]string{"access-key-id", secret + "\x1b[2J", "secret-access-key", secret}, "access-key-id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writeKeys(t, dir, tc.files...)
			_, err := (&keyFiles{dir}).Retrieve()
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, tc.want)) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v, want the path of %s and no content", err, tc.want)
			}
		})
	}
}

// provider is the provider of credentials at AWS.
type provider struct {
	status int
	answer string
	// asked is the body of the last request.
	asked string
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "sts.eu-central-1.amazonaws.com" {
		return nil, errors.New("it asked " + r.URL.Host)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	p.asked = r.URL.RawQuery + string(body)
	return &http.Response{StatusCode: p.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(p.answer))}, nil
}

func TestWebIdentity(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/backups")
	t.Setenv("AWS_REGION", "eu-central-1")
	for name, tc := range map[string]struct {
		provider provider
		want     string
		class    error
	}{
		"granted": {provider{status: http.StatusOK, answer: `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>granted</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
<Expiration>2126-11-30T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`}, "", nil},
		"denied": {provider{status: http.StatusForbidden, answer: `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<Error><Code>AccessDenied</Code><Message>the-token may not</Message></Error></ErrorResponse>`}, "AccessDenied", ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			identity, err := newWebIdentity("")
			if err != nil {
				t.Fatal(err)
			}
			identity.Client = &http.Client{Transport: &tc.provider}
			got, err := identity.Retrieve()
			if !strings.Contains(tc.provider.asked, "the-token") {
				t.Errorf("it asked with %q, and not with the token", tc.provider.asked)
			}
			if tc.class == nil {
				if err != nil || got.AccessKeyID != "granted" {
					t.Errorf("got %q, %v", got.AccessKeyID, err)
				}
				return
			}
			failed, ok := errors.AsType[*credentialsError](err)
			if !ok || !errors.Is(failed.class, tc.class) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "the-token") {
				t.Errorf("got %v, want %v with %q and no token", err, tc.class, tc.want)
			}
		})
	}
}

// TestNoWebIdentity checks that a pod without an identity does not use the credentials of its node.
func TestNoWebIdentity(t *testing.T) {
	for _, variable := range identityVariables {
		t.Setenv(variable, "")
	}
	_, err := New(config.Destination{ObjectStore: &config.ObjectStore{URL: "https://s3.example.com/backups"}})
	if err == nil || !strings.Contains(err.Error(), "name a Secret") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}
