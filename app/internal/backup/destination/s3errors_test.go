package destination

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
)

// TestAnswersHaveClasses checks the class of a server's answer, and what the error says.
func TestAnswersHaveClasses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer error
		class  error
		want   string
	}{
		"a file that is not there":   {minio.ErrorResponse{Code: "NoSuchKey", StatusCode: 404}, ErrNotFound, "NoSuchKey; `securenotes backup list`"},
		"no bucket":                  {minio.ErrorResponse{Code: "NoSuchBucket", StatusCode: 404}, ErrNotFound, "NoSuchBucket; create the bucket"},
		"a file that is there":       {minio.ErrorResponse{Code: "PreconditionFailed", StatusCode: 412}, ErrExists, "never overwritten"},
		"another writer":             {minio.ErrorResponse{Code: "ConditionalRequestConflict", StatusCode: 409}, ErrExists, "never overwritten"},
		"a wrong key":                {minio.ErrorResponse{Code: "InvalidAccessKeyId", StatusCode: 403}, ErrDenied, "check the access key"},
		"a wrong clock":              {minio.ErrorResponse{Code: "RequestTimeTooSkewed", StatusCode: 403}, ErrDenied, "the clock"},
		"a token that has expired":   {minio.ErrorResponse{Code: "ExpiredToken", StatusCode: 400}, ErrDenied, "check the access key"},
		"another refusal":            {minio.ErrorResponse{Code: "Forbidden", StatusCode: 403}, ErrDenied, "Forbidden"},
		"a quota of Ceph":            {minio.ErrorResponse{Code: "QuotaExceeded", StatusCode: 403}, ErrFull, "raise the quota"},
		"a quota of MinIO":           {minio.ErrorResponse{Code: "XMinioAdminBucketQuotaExceeded", StatusCode: 400}, ErrFull, "raise the quota"},
		"no space":                   {minio.ErrorResponse{Code: "Unknown", StatusCode: 507}, ErrFull, "raise the quota"},
		"busy":                       {minio.ErrorResponse{Code: "SlowDown", StatusCode: 503}, ErrUnavailable, "try again"},
		"an internal error":          {minio.ErrorResponse{Code: "InternalError", StatusCode: 500}, ErrUnavailable, "InternalError"},
		"an upload that was swept":   {minio.ErrorResponse{Code: "NoSuchUpload", StatusCode: 404}, ErrNotFound, "NoSuchUpload"},
		"another region":             {minio.ErrorResponse{Code: "AuthorizationHeaderMalformed", StatusCode: 400}, nil, "check the URL of the destination and its region"},
		"a code that is not printed": {minio.ErrorResponse{Code: "\x1b[2J secret", StatusCode: 500}, ErrUnavailable, "HTTP status 500"},
		"no answer of S3":            {errors.New("XML syntax error"), ErrUnavailable, "not one of S3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bucket{at: "https://s3.example.com/backups"}
			ctx, op := begin(t.Context(), idleTimeout)
			defer op.end()
			err := b.failure(ctx, op, "write", archiveName(firstID), tc.answer)
			if got := classOf(err); !errors.Is(got, tc.class) {
				t.Errorf("got the class %v, want %v", got, tc.class)
			}
			for _, want := range []string{"write " + archiveName(firstID) + " in https://s3.example.com/backups: ", tc.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%q repeats the server's text", err)
			}
		})
	}
}

// TestErrorsOfConnectionsHaveNoURL checks that an error does not repeat the query of a request.
func TestErrorsOfConnectionsHaveNoURL(t *testing.T) {
	t.Parallel()
	b := &bucket{at: "https://s3.example.com/backups"}
	ctx, op := begin(t.Context(), idleTimeout)
	defer op.end()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://s3.example.com/?uploadId=hidden", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: watched{refusing{}}}).Do(request)
	if err == nil {
		answer.Body.Close()
		t.Fatal("there is an answer")
	}
	err = b.failure(ctx, op, "list", "", err)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "hidden") {
		t.Errorf("got %v, want %v and its cause without the query", err, ErrUnavailable)
	}
}

type refusing struct{}

func (refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

// TestTheContextEndsAnOperation checks that an error keeps the caller's own cause.
func TestTheContextEndsAnOperation(t *testing.T) {
	t.Parallel()
	stop := errors.New("the pod is told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	b := &bucket{at: "https://s3.example.com/backups"}
	ctx, op := begin(ctx, idleTimeout)
	defer op.end()
	if err := b.failure(ctx, op, "list", "", ctx.Err()); !errors.Is(err, stop) || classOf(err) != nil {
		t.Errorf("got %v, want %v without a class", err, stop)
	}
}

// TestCausesArePrintable checks the text of a cause that a server wrote.
func TestCausesArePrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"connection refused":             "connection refused",
		"a\x1b[31mb\nc":                  "a?[31mb?c",
		strings.Repeat("ä", 2*maxCause):  strings.Repeat("ä", maxCause) + "…",
		fmt.Sprintf("%s\x00", "no tail"): "no tail?",
	} {
		if got := printable(text); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
