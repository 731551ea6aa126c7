package destination

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// partSize is the size of the parts of an upload. One part of each upload is in memory.
	partSize = 16 << 20
	// maxParts is how many parts S3 accepts.
	maxParts = 10_000
	// smallFile is the size up to which a file is uploaded in one request.
	smallFile = 64 << 10
	// abortTimeout bounds the abort of a failed upload, after its own context may have ended.
	abortTimeout = 30 * time.Second

	checksum = "X-Amz-Checksum-Sha256"
)

// Create uploads a file. The server forbids overwriting if it knows If-None-Match; the look before
// the upload protects a file on other servers, and saves a useless upload.
func (b *bucket) Create(ctx context.Context, name string, content io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	ctx, op := begin(ctx, b.idle)
	defer op.end()
	read := &source{ctx: ctx, content: content}
	if err := b.create(ctx, op, b.prefix+name, read); err != nil {
		if read.err != nil {
			return fmt.Errorf("%s: %w", action("write", name, b), read.err)
		}
		return b.failure(ctx, op, "write", name, err)
	}
	return nil
}

// errTaken is the answer that a server gives to If-None-Match.
var errTaken = minio.ErrorResponse{Code: minio.PreconditionFailed, StatusCode: http.StatusPreconditionFailed}

func (b *bucket) create(ctx context.Context, op *operation, key string, content *source) error {
	switch _, err := b.client.StatObject(ctx, b.name, key, minio.StatObjectOptions{}); {
	case err == nil:
		return errTaken
	case minio.ToErrorResponse(err).StatusCode != http.StatusNotFound || minio.ToErrorResponse(err).Code == minio.NoSuchBucket:
		return err
	}
	small := make([]byte, smallFile)
	n, last, err := content.fill(small)
	if err != nil {
		return err
	}
	if last {
		return b.put(ctx, op, key, small[:n])
	}
	return b.putParts(ctx, op, key, small, content)
}

// put uploads a file in one request.
func (b *bucket) put(ctx context.Context, op *operation, key string, content []byte) error {
	sum := sha256.Sum256(content)
	return b.publish(ctx, op, key, int64(len(content)), func(opts minio.PutObjectOptions) error {
		opts.UserMetadata = map[string]string{checksum: base64.StdEncoding.EncodeToString(sum[:])}
		_, err := b.client.PutObject(ctx, b.name, key, bytes.NewReader(content), int64(len(content)), "", hex.EncodeToString(sum[:]), opts)
		return err
	})
}

// putParts uploads a file in parts, of which the first begins with start.
func (b *bucket) putParts(ctx context.Context, op *operation, key string, start []byte, content *source) (err error) {
	id, err := b.client.NewMultipartUpload(ctx, b.name, key, minio.PutObjectOptions{
		UserMetadata: map[string]string{"X-Amz-Checksum-Algorithm": "SHA256"},
	})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// Sweep aborts what is not aborted here.
			_ = b.abort(context.WithoutCancel(ctx), key, id)
		}
	}()
	var (
		parts []minio.CompletePart
		size  int64
		part  = make([]byte, b.partSize)
		n     = copy(part, start)
	)
	for last := false; !last; n = 0 {
		var read int
		if read, last, err = content.fill(part[n:]); err != nil {
			return err
		}
		if n += read; n == 0 {
			break
		}
		if len(parts) == b.maxParts {
			return &limitError{fmt.Sprintf("the file has more than %d bytes", int64(b.maxParts)*int64(b.partSize)), "use a directory as the destination"}
		}
		done, err := b.putPart(ctx, key, id, len(parts)+1, part[:n])
		if err != nil {
			return err
		}
		parts, size = append(parts, done), size+int64(n)
	}
	return b.publish(ctx, op, key, size, func(opts minio.PutObjectOptions) error {
		_, err := b.client.CompleteMultipartUpload(ctx, b.name, key, id, parts, opts)
		return err
	})
}

func (b *bucket) putPart(ctx context.Context, key, id string, number int, content []byte) (minio.CompletePart, error) {
	sum := sha256.Sum256(content)
	inBase64 := base64.StdEncoding.EncodeToString(sum[:])
	part, err := b.client.PutObjectPart(ctx, b.name, key, id, number, bytes.NewReader(content), int64(len(content)), minio.PutObjectPartOptions{
		Sha256Hex: hex.EncodeToString(sum[:]), CustomHeader: http.Header{checksum: {inBase64}},
	})
	if err != nil {
		return minio.CompletePart{}, err
	}
	return minio.CompletePart{PartNumber: number, ETag: part.ETag, ChecksumSHA256: part.ChecksumSHA256}, nil
}

// publish sends the request that makes a file visible. If the answer to it was lost and the client
// repeated it, the server may refuse the repetition because of the first one.
func (b *bucket) publish(ctx context.Context, op *operation, key string, size int64, request func(minio.PutObjectOptions) error) error {
	op.fresh()
	var onlyNew minio.PutObjectOptions
	onlyNew.SetMatchETagExcept("*")
	err := request(onlyNew)
	if minio.ToErrorResponse(err).StatusCode == http.StatusNotImplemented {
		err = request(minio.PutObjectOptions{})
	}
	if err == nil || !op.repeated() {
		return err
	}
	if found, statErr := b.client.StatObject(ctx, b.name, key, minio.StatObjectOptions{}); statErr == nil && found.Size == size {
		return nil
	}
	return err
}

// abort discards the parts of an upload.
func (b *bucket) abort(ctx context.Context, key, id string) error {
	ctx, cancel := context.WithTimeout(ctx, abortTimeout)
	defer cancel()
	ctx, op := begin(ctx, b.idle)
	defer op.end()
	err := b.client.AbortMultipartUpload(ctx, b.name, key, id)
	if minio.ToErrorResponse(err).Code == minio.NoSuchUpload {
		return nil
	}
	if err != nil {
		return b.failure(ctx, op, "abort an unfinished upload of", key[len(b.prefix):], err)
	}
	return nil
}
