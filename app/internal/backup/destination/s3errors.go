package destination

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/minio/minio-go/v7"
)

// codes are the classes of the error codes of S3 and of servers with its protocol, where the status
// of the answer is not enough.
var codes = map[string]error{
	"NoSuchKey": ErrNotFound, "NoSuchVersion": ErrNotFound, "NoSuchBucket": ErrNotFound, "NotFound": ErrNotFound,
	"PreconditionFailed": ErrExists, "ConditionalRequestConflict": ErrExists,
	"AccessDenied": ErrDenied, "InvalidAccessKeyId": ErrDenied, "SignatureDoesNotMatch": ErrDenied, "ExpiredToken": ErrDenied,
	"InvalidToken": ErrDenied, "TokenRefreshRequired": ErrDenied, "RequestTimeTooSkewed": ErrDenied,
	"InvalidObjectState": ErrDenied, "InvalidRequest": ErrDenied,
	"QuotaExceeded": ErrFull, "NoSpaceLeftOnDevice": ErrFull, "InsufficientStorage": ErrFull, "XMinioStorageFull": ErrFull,
	"XMinioAdminBucketQuotaExceeded": ErrFull, "StorageFull": ErrFull,
	"RequestTimeout": ErrUnavailable, "SlowDown": ErrUnavailable, "OperationAborted": ErrUnavailable,
}

// statuses are the classes of other errors.
var statuses = map[int]error{
	http.StatusNotFound: ErrNotFound, http.StatusPreconditionFailed: ErrExists, http.StatusUnauthorized: ErrDenied,
	http.StatusForbidden: ErrDenied, http.StatusInsufficientStorage: ErrFull, http.StatusRequestTimeout: ErrUnavailable,
	http.StatusTooManyRequests: ErrUnavailable,
}

// nexts are what to do about an error of a class.
var nexts = map[error]string{
	ErrNotFound:    "`securenotes backup list` shows what is there",
	ErrExists:      nextAfterExists,
	ErrDenied:      "check the access key, the clock, and that the policy allows s3:PutObject, s3:GetObject and s3:ListBucket there",
	ErrFull:        "delete old backups or raise the quota, and start a new backup",
	ErrUnavailable: "check that the pod reaches the server, and try again",
}

// verbDelete names the operation that needs a right which backups without backup.keep do not need.
const (
	verbDelete            = "delete"
	nextAfterDeleteDenied = "check the access key, and that the policy allows s3:DeleteObject there; without that right, leave backup.keep unset"
)

// nextsOfCodes are what to do about an error, where it is not the same for the whole class.
var nextsOfCodes = map[string]string{
	minio.NoSuchBucket: "create the bucket, or correct the URL of the destination",
	"InvalidObjectState": "the object is in an archive storage class such as Glacier: restore it to one that can be read at once, " +
		"and except these names from the lifecycle rule",
	"InvalidRequest": "if the object is encrypted with a key of the client (SSE-C), copy it to the same name without that key; " +
		"otherwise check what the bucket demands of requests",
}

// codeForm is the form of an error code. Other text of a server is not repeated.
var codeForm = regexp.MustCompile(`^[A-Za-z0-9.]{1,64}$`)

// errorCode names the error of an answer.
func errorCode(code string, status int) string {
	if codeForm.MatchString(code) {
		return code
	}
	return fmt.Sprintf("HTTP status %d", status)
}

// failure returns the error of an operation. ctx is the operation's context.
func (b *bucket) failure(ctx context.Context, op *operation, verb, name string, err error) error {
	f := explain(ctx, op, err)
	f.action = action(verb, name, b)
	if f.next == "" && verb == verbDelete && errors.Is(f.class, ErrDenied) {
		f.next = nextAfterDeleteDenied
	}
	if f.next == "" {
		f.next = nexts[f.class]
	}
	return f
}

// explain returns the class, the cause, and what to do if it is not that of the class.
func explain(ctx context.Context, op *operation, err error) *failure {
	answer := minio.ToErrorResponse(err)
	failed := op.failure()
	switch ended := context.Cause(ctx); {
	case errors.Is(ended, errIdle):
		return &failure{class: ErrUnavailable, cause: ended}
	case errors.Is(ended, errTooManyRequests):
		return &failure{cause: ended, next: "check that the URL is that of a server with the protocol of S3"}
	case isCertificate(ended):
		return &failure{cause: ended, next: "check the URL, and the CA certificates of the destination"}
	case ended != nil:
		return &failure{cause: ended, next: "start again"}
	}
	if limit, ok := errors.AsType[*limitError](err); ok {
		return &failure{cause: limit, next: limit.next}
	}
	if missing, ok := errors.AsType[*credentialsError](err); ok {
		return &failure{class: missing.class, cause: missing.cause, next: missing.next}
	}
	if answer.Code == "" {
		if failed == nil {
			failed = errors.New("the server's answer is not one of S3")
		}
		return &failure{class: ErrUnavailable, cause: failed}
	}
	cause := errors.New(errorCode(answer.Code, answer.StatusCode))
	switch class, known := codes[answer.Code]; {
	case known:
		return &failure{class: class, cause: cause, next: nextsOfCodes[answer.Code]}
	case answer.StatusCode >= http.StatusInternalServerError && statuses[answer.StatusCode] == nil:
		return &failure{class: ErrUnavailable, cause: cause}
	case statuses[answer.StatusCode] != nil:
		return &failure{class: statuses[answer.StatusCode], cause: cause}
	}
	return &failure{cause: cause, next: "check the URL of the destination and its region"}
}

func isCertificate(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}
