/*
 * Functions of the documented interface that are not supported: each says so, and leaves nothing behind that could be taken for
 * a handle.
 */
#include "compute.h"

static PWSTR rubbish(void)
{
    return (PWSTR)(intptr_t)1;
}

CHECK(hcs_operations_absent)
{
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    HCS_PROCESS_INFORMATION information;
    PWSTR document = rubbish();
    EXPECT_RESULT(HcsCancelOperation(operation), E_NOTIMPL);
    EXPECT_RESULT(HcsCancelOperation(NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsAddResourceToOperation(operation, HcsResourceTypeFile, wide("x"), NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsGetOperationResultAndProcessInfo(operation, &information, &document), E_NOTIMPL);
    EXPECT(document == NULL);
    document = rubbish();
    EXPECT_RESULT(HcsWaitForOperationResultAndProcessInfo(operation, 0, &information, &document),
                  E_NOTIMPL);
    EXPECT(document == NULL);
    EXPECT_RESULT(HcsGetOperationResultAndProcessInfo(operation, NULL, NULL), E_NOTIMPL);
    EXPECT(HcsGetProcessFromOperation(operation) == NULL);
    EXPECT(HcsCreateOperationWithNotifications(HcsOperationOptionProgressUpdate, NULL, NULL) == NULL);
    /* It was not used. */
    EXPECT_RESULT(HcsGetOperationResult(operation, NULL), HCS_E_OPERATION_NOT_STARTED);
    HcsCloseOperation(operation);
}

CHECK(hcs_systems_absent)
{
    HCS_SYSTEM compute_system = (HCS_SYSTEM)(intptr_t)1;
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    char text[256];
    EXPECT_RESULT(HcsCreateComputeSystemInNamespace(wide("n"), wide("i"), wide("{}"), operation, NULL,
                                                    &compute_system),
                  E_NOTIMPL);
    EXPECT(compute_system == NULL);
    compute_system = (HCS_SYSTEM)(intptr_t)1;
    EXPECT_RESULT(HcsOpenComputeSystemInNamespace(wide("n"), wide("i"), GENERIC_ALL, &compute_system),
                  E_NOTIMPL);
    EXPECT(compute_system == NULL);
    EXPECT_RESULT(HcsEnumerateComputeSystemsInNamespace(wide("n"), NULL, operation), E_NOTIMPL);
    EXPECT_RESULT(HcsSaveComputeSystem(NULL, operation, NULL), E_NOTIMPL);
    EXPECT(OpenHdvGetLastErrorText(text, sizeof text) > 1);
    EXPECT(strstr(text, "HcsSaveComputeSystem") != NULL);
    EXPECT_RESULT(HcsCrashComputeSystem(NULL, operation, NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsGetOperationResult(operation, NULL), HCS_E_OPERATION_NOT_STARTED);
    HcsCloseOperation(operation);
}

CHECK(hcs_processes_absent)
{
    HCS_PROCESS process = (HCS_PROCESS)(intptr_t)1;
    PWSTR document = rubbish();
    EXPECT_RESULT(HcsCreateProcess(NULL, wide("{}"), NULL, NULL, &process), E_NOTIMPL);
    EXPECT(process == NULL);
    process = (HCS_PROCESS)(intptr_t)1;
    EXPECT_RESULT(HcsOpenProcess(NULL, 1, GENERIC_ALL, &process), E_NOTIMPL);
    EXPECT(process == NULL);
    EXPECT_RESULT(HcsTerminateProcess(process, NULL, NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsSignalProcess(process, NULL, NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsGetProcessInfo(process, NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsGetProcessProperties(process, NULL, NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsModifyProcess(process, NULL, wide("{}")), E_NOTIMPL);
    EXPECT_RESULT(HcsSetProcessCallback(process, HcsEventOptionNone, NULL, NULL), E_NOTIMPL);
    EXPECT_RESULT(HcsWaitForProcessExit(process, 0, &document), E_NOTIMPL);
    EXPECT(document == NULL);
    HcsCloseProcess(process);
}

CHECK(hcs_service_absent)
{
    PWSTR document = rubbish();
    PCWSTR features = rubbish();
    EXPECT_RESULT(HcsModifyServiceSettings(wide("{}"), &document), E_NOTIMPL);
    EXPECT(document == NULL);
    EXPECT_RESULT(HcsSubmitWerReport(wide("{}")), E_NOTIMPL);
    EXPECT_RESULT(HcsCreateEmptyGuestStateFile(wide("x")), E_NOTIMPL);
    EXPECT_RESULT(HcsCreateEmptyRuntimeStateFile(wide("x")), E_NOTIMPL);
    EXPECT_RESULT(HcsGetProcessorCompatibilityFromSavedState(wide("x"), &features), E_NOTIMPL);
    EXPECT(features == NULL);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(hcs_operations_absent);
    RUN(hcs_systems_absent);
    RUN(hcs_processes_absent);
    RUN(hcs_service_absent);
    FINISH();
}
