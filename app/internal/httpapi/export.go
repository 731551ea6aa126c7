package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/notes"
)

// exportAccount streams all data of the user as NDJSON: a line for the account, one for each note,
// and one for the end. If that one is missing, the export was cut off.
func (h *handlers) exportAccount(c *gin.Context) error {
	if c.Request.Method == http.MethodHead { // reads no notes and needs no slot
		if _, err := h.exportedUser(c); err != nil {
			return err
		}
		exportHeaders(c)
		return nil
	}
	slot := &exportSlot{user: identity(c).Owner}
	paced := newPacedAnswer(c.Request.Context(), c.Writer, slot, h.exports.now)
	defer paced.stop(nil)
	e := &export{c: c, answer: c.Writer.(*heldAnswer), paced: paced, lines: json.NewEncoder(paced), query: h.RequestTimeout}
	err := h.export(c, e)
	if cause := context.Cause(paced.ctx); err != nil && errors.Is(cause, errPreempted) {
		err = cause // err is a consequence of it
	}
	if err != nil && e.begun {
		// The status is sent already. The connection must not end as if the answer were complete.
		h.failures.log(c, "export cut off", err)
		c.Abort()
		return nil
	}
	return err
}

func (h *handlers) export(c *gin.Context, e *export) (err error) {
	if err := e.extend(exportWait + 2*h.RequestTimeout); err != nil { // for a slot, the account and the first notes
		return err
	}
	if e.user, err = h.exportedUser(c); err != nil {
		return err
	}
	if err := h.exports.acquire(e.paced.ctx, e.paced.slot); err != nil {
		return err
	}
	defer h.exports.release(e.paced.slot)
	if err := h.Notes.Export(e.paced.ctx, identity(c), h.RequestTimeout, e.page); err != nil {
		return err
	}
	return e.end()
}

func (h *handlers) exportedUser(c *gin.Context) (accounts.User, error) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), h.RequestTimeout)
	defer cancel()
	return h.Accounts.User(ctx, identity(c))
}

// export is an export in progress.
type export struct {
	c      *gin.Context
	answer *heldAnswer
	paced  *pacedAnswer
	lines  *json.Encoder
	user   accounts.User
	// query bounds each query of the database.
	query time.Duration
	begun bool
}

// extend moves the deadline by the time that the database may take, and then the client. The
// server's timeout for an answer would cut off an export of many notes. (Its timeout for a request
// ends with the request's body.)
func (e *export) extend(database time.Duration) error { return e.paced.extend(database + exportStall) }

// begin sends the first line. It is called when the first notes have been read: until then an error
// can still have a status.
func (e *export) begin() error {
	if e.begun {
		return nil
	}
	if err := e.answer.stream(); err != nil {
		return err
	}
	e.begun = true
	exportHeaders(e.c)
	return e.lines.Encode(gin.H{"type": "account", "id": e.user.ID, "username": e.user.Username, "created_at": e.user.CreatedAt})
}

func exportHeaders(c *gin.Context) {
	c.Header("Content-Type", "application/x-ndjson")
	c.Header("Content-Disposition", `attachment; filename="securenotes-export.ndjson"`)
	c.Status(http.StatusOK)
}

// page sends notes at once, however few they are.
func (e *export) page(page []notes.Note) error {
	if err := e.begin(); err != nil {
		return err
	}
	for _, n := range page {
		line := struct {
			Type string `json:"type"`
			noteAnswer
		}{"note", newNoteAnswer(n)}
		if err := e.lines.Encode(line); err != nil {
			return err
		}
		e.answer.notes++
	}
	if err := e.paced.flush(); err != nil {
		return err
	}
	return e.extend(e.query)
}

func (e *export) end() error {
	if err := e.begin(); err != nil {
		return err
	}
	if err := e.lines.Encode(gin.H{"type": "end", "notes": e.answer.notes}); err != nil {
		return err
	}
	e.answer.complete = true
	return nil
}
