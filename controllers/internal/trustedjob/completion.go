package trustedjob

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Identity identifies a Job that the operator created.
type Identity struct {
	UID types.UID
	// Digest is the digest of the Job's spec as it was created. It is empty if an earlier release
	// created the Job.
	Digest string
}

// Known reports whether a Job is identified.
func (i Identity) Known() bool { return i.UID != "" }

// Identify returns the identity of a Job that the API server has just returned.
func Identify(job *batchv1.Job) (Identity, error) {
	digest, err := specDigest(job)
	return Identity{UID: job.UID, Digest: digest}, err
}

// specDigest returns the SHA-256 of a Job's spec with the API server's defaults. It leaves out
// suspend, which changes when the Job runs, not what it does.
func specDigest(job *batchv1.Job) (string, error) {
	spec := job.Spec.DeepCopy()
	spec.Suspend = nil
	raw, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("digest of Job %s: %w", job.Name, err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// tamperedError says that a complete Job is not believed.
type tamperedError struct{ job, why string }

func (e *tamperedError) Error() string {
	return fmt.Sprintf("Job %s is complete, but %s: find out who changed it", e.job, e.why)
}

// checkComplete returns a [tamperedError] for a complete Job that is not believed. Anyone who may
// patch Jobs can have the Job of the recorded UID complete without a pod, by setting its
// completions to 0.
func (e Expected) checkComplete(job *batchv1.Job) error {
	digest, err := specDigest(job)
	if err != nil {
		return err
	}
	if e.Recorded.Digest != "" && digest != e.Recorded.Digest {
		return &tamperedError{job.Name, "its spec is not the one that it was created with"}
	}
	completions := job.Spec.Completions
	if e.Pods < 1 || completions == nil || *completions != e.Pods || job.Status.Succeeded != e.Pods || !allIndexes(job.Status.CompletedIndexes, e.Pods) {
		return &tamperedError{job.Name, fmt.Sprintf("not all of its %d pods have succeeded", e.Pods)}
	}
	return nil
}

// allIndexes reports whether completed, such as "0-2,3", lists each index below pods once.
func allIndexes(completed string, pods int32) bool {
	next := int64(0)
	for part := range strings.SplitSeq(completed, ",") {
		text, end, isRange := strings.Cut(part, "-")
		if !isRange {
			end = text
		}
		first, err := strconv.ParseInt(text, 10, 32)
		if err != nil || first != next {
			return false
		}
		last, err := strconv.ParseInt(end, 10, 32)
		if err != nil || last < first {
			return false
		}
		next = last + 1
	}
	return next == int64(pods)
}
