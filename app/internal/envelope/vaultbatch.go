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

	"github.com/securenotes/securenotes/app/internal/vault"
)

// maxBatchAnswer and maxItemAnswer bound what Vault's answer to a batch may have, in bytes: for all, and for each item.
const maxBatchAnswer, maxItemAnswer = 16 << 10, 2 << 10

// maxFailure bounds what is told of Vault's reason not to answer an item, in bytes.
const maxFailure = 200

// batchRequest is the body of Vault Transit's encrypt, decrypt and rewrap. Bytes are base64, as encoding/json has them.
type batchRequest struct {
	Items []batchItem `json:"batch_input"`
	// PartialFailure is the HTTP status where some items fail and others do not.
	PartialFailure int `json:"partial_failure_response_code"`
}

// batchItem has either a plaintext or a ciphertext. One that is empty is to be refused by itself: without it Vault would
// refuse the whole batch.
type batchItem struct {
	Plaintext  []byte   `json:"plaintext,omitempty"`
	Ciphertext *Wrapped `json:"ciphertext,omitempty"`
	Context    []byte   `json:"context"`
}

// batchAnswer is Vault's answer for one item. Unlike in the types of Vault's own client a key is in a slice, which can be
// wiped.
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

// readBatch reads the answers for so many items, and wipes the text that they were in. Where every single item fails,
// Vault answers HTTP 400 whatever was asked for, with the items' failures all the same.
func readBatch(response *api.Response, failed error, want int) ([]batchAnswer, error) {
	if response != nil {
		defer response.Body.Close()
	}
	var status *api.ResponseError
	if failed != nil && (response == nil || !errors.As(failed, &status) || status.StatusCode != http.StatusBadRequest) {
		return nil, failed
	}
	most := maxBatchAnswer + want*maxItemAnswer
	text := make([]byte, 0, most+1+bytes.MinRead) // in one piece: what grows leaves copies behind
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
		return nil, errors.New("the answer is not what Transit answers to a batch") // the library's error may quote it
	case len(answers) != want:
		wipe(answers)
		return nil, fmt.Errorf("the answer has %d results, not %d", len(answers), want)
	}
	for i := range answers {
		answer := &answers[i]
		switch {
		case answer.Failure != "":
			answer.Failure = answer.Failure[:min(len(answer.Failure), maxFailure)]
			clear(answer.Plaintext)
			answer.Plaintext = nil
		case answer.Ciphertext == "" && len(answer.Plaintext) == 0:
			answer.Failure = "no result"
		}
	}
	return answers, nil
}
