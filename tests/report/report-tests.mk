# The page of foal report, and trace events in a viewer, in a browser. Of the tree as it is built for use: a sanitizer has the
# reduction in tests/vmm/test_report.c.
ifeq ($(SAN),)
REPORT_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/report/*.c))
REPORT_BROWSER   := $(BUILD)/tests/report/node_modules/.package-lock.json
TEST_PROGRAMS    += $(OUT)/tests/test_report

$(REPORT_BROWSER): tests/report/package-lock.json tests/report/package.json
	$(call npm_ci,$(BUILD)/tests/report,make test)

# What it starts and opens is no prerequisite of the link.
$(OUT)/tests/test_report: $(REPORT_TEST_OBJS) $(CHECK_OBJS) $(LIBS) | $(OUT)/foal $(REPORT_PAGE) $(REPORT_BROWSER)
	$(call link,$(LDFLAGS),$(CHECK_LIBS) -ljansson $(DEVICES_LIBS) $(EPT_LIBS))
endif

# The picture in the README: the page of the main job, run here.
.PHONY: report-picture
report-picture: all $(REPORT_PAGE) $(REPORT_BROWSER)
	scripts/report-picture docs/report.png
