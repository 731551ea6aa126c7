package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
)

func (h *handlers) secondFactorStatus(c *gin.Context) {
	status, err := h.Accounts.SecondFactorStatus(c.Request.Context(), identity(c))
	if err != nil {
		h.failWith(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"enabled": status.Enabled, "recovery_codes_left": status.RecoveryCodes})
}

func (h *handlers) proposeSecondFactor(c *gin.Context) {
	var body struct {
		Password string `json:"password"`
	}
	if !decode(c, &body) {
		return
	}
	proposed, err := h.Accounts.ProposeSecondFactor(c.Request.Context(), identity(c), c.ClientIP(), body.Password)
	if err != nil {
		h.failReauthentication(c, err)
		return
	}
	c.JSON(http.StatusCreated, gin.H{"secret": proposed.Secret, "uri": proposed.URI})
}

func (h *handlers) confirmSecondFactor(c *gin.Context) {
	var body struct {
		Code string `json:"code"`
	}
	if !decode(c, &body) {
		return
	}
	codes, err := h.Accounts.ConfirmSecondFactor(c.Request.Context(), identity(c), c.ClientIP(), body.Code)
	if err != nil {
		h.failReauthentication(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"recovery_codes": codes})
}

func (h *handlers) removeSecondFactor(c *gin.Context) {
	var body reauthentication
	if !decode(c, &body) {
		return
	}
	if err := h.Accounts.RemoveSecondFactor(c.Request.Context(), identity(c), c.ClientIP(), accounts.Reauthentication(body)); err != nil {
		h.failReauthentication(c, err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"message": "Second factor removed"})
}
