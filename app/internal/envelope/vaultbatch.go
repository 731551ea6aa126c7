package envelope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config/truncate"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// maxBatchAnswer and maxItemAnswer bound Vault's answer to a batch, in bytes: a part for the whole
// and a part for each item.
const maxBatchAnswer, maxItemAnswer = 16 << 10, 2 << 10

// maxFailure bounds Vault's error message for an item, in bytes.
const maxFailure = 200

// batchRequest is the body of a request to Transit's encrypt, decrypt and rewrap. Package json
// encodes bytes in base64, as Transit expects.
type batchRequest struct {
	Items []batchItem `json:"batch_input"`
	// PartialFailure is the HTTP status if some items fail and others do not.
	PartialFailure int `json:"partial_failure_response_code"`
}

// batchItem has either a plaintext or a ciphertext. An empty ciphertext must be sent: without the
// field, Vault refuses the whole batch, and not only the item.
type batchItem struct {
	Plaintext  []byte   `json:"plaintext,omitempty"`
	Ciphertext *Wrapped `json:"ciphertext,omitempty"`
	Context    []byte   `json:"context"`
}

// batchAnswer is Vault's answer for one item. Its key is in a slice, which can be cleared; the
// types of Vault's client have strings.
type batchAnswer struct {
	Plaintext  []byte `json:"plaintext"`
	Ciphertext string `json:"ciphertext"`
	Failure    string `json:"error"`
}

func answered(a batchAnswer) bool { return a.Failure == "" }

func (a batchAnswer) refused() error {
	if !answered(a) {
		return fmt.Errorf("%w: Vault says: %s", ErrRefused, a.Failure)
	}
	return nil
}

func (a batchAnswer) wrapped() (Wrapped, error) {
	if err := a.refused(); err != nil {
		return "", err
	}
	w := Wrapped(a.Ciphertext)
	if _, err := w.Version(); err != nil {
		return "", fmt.Errorf("Vault's answer: %w", err)
	}
	return w, nil
}

// readBatch parses the answers for want items, and clears their text. If every item fails, Vault
// answers HTTP 400, whatever PartialFailure is, with the items' errors in the body.
func readBatch(response *api.Response, failed error, want int) ([]batchAnswer, error) {
	if response != nil {
		defer response.Body.Close()
	}
	if failed != nil {
		status, ok := errors.AsType[*api.ResponseError](failed)
		if response == nil || !ok || status.StatusCode != http.StatusBadRequest {
			return nil, failed
		}
	}
	most := maxBatchAnswer + want*maxItemAnswer
	text := make([]byte, 0, most+1+bytes.MinRead) // allocated at once, because a growing buffer leaves copies in memory
	defer func() { clear(text[:cap(text)]) }()
	buffer := bytes.NewBuffer(text)
	n, err := buffer.ReadFrom(io.LimitReader(response.Body, int64(most)+1))
	switch {
	case errors.Is(err, context.Canceled):
		return nil, fmt.Errorf("read the answer: %w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: read the answer: %w", vault.ErrUnavailable, err)
	case n > int64(most):
		return nil, errors.New("the answer is too long")
	}
	answers, err := parseBatch(buffer.Bytes(), want)
	if failed != nil && (err != nil || slices.ContainsFunc(answers, answered)) {
		wipe(answers)
		return nil, failed
	}
	return answers, err
}

func wipe(answers []batchAnswer) {
	for _, answer := range answers {
		clear(answer.Plaintext)
	}
}

func parseBatch(text []byte, want int) ([]batchAnswer, error) {
	var body struct {
		Data struct {
			Answers []batchAnswer `json:"batch_results"`
		} `json:"data"`
	}
	err := json.Unmarshal(text, &body)
	answers := body.Data.Answers
	switch {
	case err != nil:
		wipe(answers)
		return nil, errors.New("the answer is not what Transit answers to a batch") // the parser's error may quote it
	case len(answers) != want:
		wipe(answers)
		return nil, fmt.Errorf("the answer has %d results, not %d", len(answers), want)
	}
	for i := range answers {
		answer := &answers[i]
		switch {
		case answer.Failure != "":
			answer.Failure = truncate.Bytes(answer.Failure, maxFailure)
			clear(answer.Plaintext)
			answer.Plaintext = nil
		case answer.Ciphertext == "" && len(answer.Plaintext) == 0:
			answer.Failure = "no result"
		}
	}
	return answers, nil
}
