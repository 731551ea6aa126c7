package httpapi

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/notes"
)

// entityTag returns the entity tag of a revision (RFC 9110, section 8.8.3). A restored database may
// give an earlier revision's number to another text, so from then on tags contain the epoch.
func (h *handlers) entityTag(revision int64) string {
	tag := strconv.FormatInt(revision, 10)
	if h.Epoch != "" {
		tag += "-" + h.Epoch
	}
	return `"` + tag + `"`
}

func (h *handlers) setETag(c *gin.Context, revision int64) { c.Header("ETag", h.entityTag(revision)) }

// ifMatch returns the note's revision that the request is for according to If-Match (RFC 9110,
// section 13.1.1). It is 0 if that header is absent or *. If the header names one revision, only
// the write compares it with the note's. Errors: notes.ErrStale, notes.ErrNotFound,
// sessions.ErrInvalid.
func (h *handlers) ifMatch(c *gin.Context, id string) (int64, error) {
	lines := c.Request.Header.Values("If-Match")
	if len(lines) == 0 {
		return 0, nil
	}
	// A value that is not a list of tags matches nothing.
	tags, anyTag, _ := entityTags(strings.Join(lines, ","))
	if anyTag {
		return 0, nil
	}
	if revision, ok := h.onlyRevision(tags); ok {
		return revision, nil
	}
	current, err := h.Notes.Revision(c.Request.Context(), identity(c), id)
	if err != nil {
		return 0, err
	}
	if !slices.Contains(tags, h.entityTag(current)) {
		return 0, notes.ErrStale
	}
	return current, nil
}

// onlyRevision returns the revision of the only tag, if it is one that entityTag returns.
func (h *handlers) onlyRevision(tags []string) (int64, bool) {
	if len(tags) != 1 {
		return 0, false
	}
	number, _, _ := strings.Cut(strings.Trim(tags[0], `"`), "-")
	revision, err := strconv.ParseInt(number, 10, 64)
	// Tags are opaque: another way to write the number, or another epoch, is another tag.
	return revision, err == nil && revision > 0 && revision < math.MaxInt64 && tags[0] == h.entityTag(revision)
}

// entityTags parses the value of If-Match. anyTag means that it is *. Otherwise it is a list of
// tags; weak tags are left out, because they match nothing. ok is false if it is neither. The
// server's limit of the header bounds the list.
func entityTags(value string) (tags []string, anyTag, ok bool) {
	const space = " \t"
	if strings.Trim(value, space) == "*" {
		return nil, true, true
	}
	elements := 0
	for rest := strings.TrimLeft(value, space+","); rest != ""; rest = strings.TrimLeft(rest, space+",") {
		opaque, weak := strings.CutPrefix(rest, "W/")
		if !strings.HasPrefix(opaque, `"`) {
			return nil, false, false
		}
		size := strings.IndexFunc(opaque[1:], func(r rune) bool { return r <= ' ' || r == '"' || r == 0x7f }) + 1
		if size == 0 || opaque[size] != '"' {
			return nil, false, false
		}
		if !weak {
			tags = append(tags, opaque[:size+1])
		}
		elements++
		rest = strings.TrimLeft(opaque[size+1:], space)
		if rest != "" && rest[0] != ',' {
			return nil, false, false
		}
	}
	return tags, false, elements > 0
}
