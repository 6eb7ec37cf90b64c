"""Commands that several inputs run after training."""

from dev.soundness.trial import command

TEST = command('{tools}/test.py', '{distil}', '{distilled_pth}')
CHECK_TEACHER = command(
    '{tools}/train.py',
    '{distil}',
    '--check-teacher',
    '--work-dir',
    '{folder}/checked',
    written_file='{folder}/checked/*.pth',
)
DISTILL = command(
    '{tools}/distill.py',
    '{config}',
    '--teacher',
    '{teacher}',
    '--work-dir',
    '{folder}/one_line',
    written_file='{folder}/one_line/*.pth',
)
ONNX = command(
    '{tools}/export_onnx.py',
    '{distil}',
    '{distilled_pth}',
    '--image-size',
    '64',
    '64',
    '--out',
    '{folder}/student.onnx',
    written_file='{folder}/student.onnx',
)
REPORT = command(
    '{tools}/report.py',
    '{distilled}',
    '--out',
    '{folder}/report.html',
    written_file='{folder}/report.html',
)
EXPORT = command(
    '{tools}/export_student.py',
    '{distil}',
    '{distilled_pth}',
    '--out',
    '{folder}/exported',
    written_file='{folder}/exported/student.pth',
)
