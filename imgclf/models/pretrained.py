"""Rows of the table: the networks of `keras.applications`, facts only. Imports no TensorFlow.

Parameters, names of layers, file names, URLs and hashes are those of `keras.applications` (3.12 to 3.15); the tests
compare each of them with the installed Keras. Licences: the Keras documentation, "Licenses" of each application.
"""

from imgclf.models.row import Backbone, Variant

KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications/"
APACHE, MIT, BSD = "Apache-2.0", "MIT", "BSD-3-Clause"

# Blocks of each stage, from the bottom; from the EfficientNet (1905.11946) and EfficientNetV2 (2104.00298) papers.
_EFFICIENTNET = {
    "b0": (1, 2, 2, 3, 3, 4, 1),
    "b1": (2, 3, 3, 4, 4, 5, 2),
    "b2": (2, 3, 3, 4, 4, 5, 2),
    "b3": (2, 3, 3, 5, 5, 6, 2),
}
_EFFICIENTNET_V2 = {
    "b0": (1, 2, 2, 3, 5, 8),
    "b1": (2, 3, 3, 4, 6, 9),
    "b2": (2, 3, 3, 4, 6, 10),
    "b3": (2, 3, 3, 5, 7, 12),
    "s": (2, 4, 4, 6, 9, 15),
}
_MOBILENET_SIZES = (128, 160, 192, 224)
_MOBILENET_V2_SIZES = (96, 128, 160, 192, 224)
_MOBILENET_V3_URL = KERAS_FILES + "mobilenet_v3/weights_mobilenet_v3_{tag}_float_no_top_v2.h5"
_MODELS_GARDEN = "Google (tensorflow/models)"


def _one(parameters: int, file_hash: str = "") -> tuple[Variant, ...]:
    return (Variant(1.0, parameters, file_hash=file_hash),)


def _numbered(pattern: str, numbers: range, **others: str) -> tuple[str, ...]:
    """Names of layers by number; `others` maps `nN` to what block N is called instead."""
    return tuple(others.get(f"n{number}", pattern.format(number)) for number in numbers)


def _resnet_cuts() -> tuple[str, ...]:
    stages = ((2, 3), (3, 4), (4, 6), (5, 3))
    ends = [f"conv{stage}_block{block}_out" for stage, count in stages for block in range(1, count + 1)]
    return (*reversed(ends[:-1]), "pool1_pool")


def _densenet_cuts() -> tuple[str, ...]:
    ends = ["pool1"]
    for stage, count in ((2, 6), (3, 12), (4, 24), (5, 16)):
        ends += [f"conv{stage}_block{block}_concat" for block in range(1, count)]
        ends.append(f"pool{stage}_pool")  # the last layer of a stage counts with the transition above it
    return tuple(reversed(ends[:-1]))


def _efficientnet_cuts(repeats: tuple[int, ...], first: str) -> tuple[str, ...]:
    """The end of every block, then the stem; `first` is what the bottom block ends with."""
    ends = [
        f"block{stage}{letter}_{'add' if letter != 'a' else 'project_bn'}"
        for stage, count in enumerate(repeats, start=1)
        for letter in "abcdefghijklmno"[:count]
    ]
    return (*reversed(ends[1:]), f"block1a_{first}", "stem_activation")


def _efficientnet(size: str, default_size: int, parameters: int, file_hash: str) -> Backbone:
    repeats = _EFFICIENTNET[size]
    return Backbone(
        name=f"efficientnet_{size}",
        title=f"EfficientNet-{size.upper()}",
        application=f"EfficientNet{size.upper()}",
        variants=_one(parameters, file_hash),
        default_size=default_size,
        min_size=32,
        scaling="efficientnet",
        cuts=_efficientnet_cuts(repeats, "project_bn"),
        default_unfreeze=1 + sum(repeats[5:]),  # the top convolution, stages 7 and 6
        licence=APACHE,
        source="Google (tensorflow/tpu)",
        url=f"https://storage.googleapis.com/keras-applications/efficientnet{size}_notop.h5",
    )


def _efficientnet_v2(size: str, default_size: int, parameters: int, file_hash: str) -> Backbone:
    repeats = _EFFICIENTNET_V2[size]
    return Backbone(
        name=f"efficientnet_v2_{size}",
        title=f"EfficientNetV2-{size.upper()}",
        application=f"EfficientNetV2{size.upper()}",
        variants=_one(parameters, file_hash),
        default_size=default_size,
        min_size=32,
        scaling="inside",
        cuts=_efficientnet_cuts(repeats, "add" if size == "s" else "project_activation"),
        default_unfreeze=1 + repeats[5],  # the top convolution and stage 6
        licence=APACHE,
        source="Google (google/automl)",
        url=KERAS_FILES + f"efficientnet_v2/efficientnetv2-{size}_notop.h5",
    )


ROWS: tuple[Backbone, ...] = (
    Backbone(
        name="mobilenet",
        title="MobileNet",
        application="MobileNet",
        variants=(
            Variant(0.25, 218544, "2_5", sizes=_MOBILENET_SIZES),
            Variant(0.5, 829536, "5_0", sizes=_MOBILENET_SIZES),
            Variant(0.75, 1832976, "7_5", sizes=_MOBILENET_SIZES),
            Variant(1.0, 3228864, "1_0", sizes=_MOBILENET_SIZES),
        ),
        default_size=224,
        min_size=32,
        scaling="tf",
        cuts=(*_numbered("conv_pw_{}_relu", range(12, 0, -1)), "conv1_relu"),
        default_unfreeze=4,
        licence=APACHE,
        source=_MODELS_GARDEN,
        url=KERAS_FILES + "mobilenet/mobilenet_{tag}_{size}_tf_no_top.h5",
    ),
    Backbone(
        name="mobilenet_v2",
        title="MobileNetV2",
        application="MobileNetV2",
        variants=(
            Variant(0.35, 410208, "0.35", sizes=_MOBILENET_V2_SIZES),
            Variant(0.5, 706224, "0.5", sizes=_MOBILENET_V2_SIZES),
            Variant(0.75, 1382064, "0.75", sizes=_MOBILENET_V2_SIZES),
            Variant(1.0, 2257984, "1.0", sizes=_MOBILENET_V2_SIZES),
            Variant(1.3, 3766048, "1.3", sizes=(224,)),  # the two widest were trained at 224 only
            Variant(1.4, 4363712, "1.4", sizes=(224,)),
        ),
        default_size=224,
        min_size=32,
        scaling="tf",
        cuts=(
            *_numbered(
                "block_{}_add",
                range(16, 0, -1),
                **{f"n{block}": f"block_{block}_project_BN" for block in (16, 13, 10, 6, 3, 1)},
            ),
            "expanded_conv_project_BN",
            "Conv1_relu",
        ),
        default_unfreeze=5,
        licence=APACHE,
        source=_MODELS_GARDEN,
        url=KERAS_FILES + "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{tag}_{size}_no_top.h5",
    ),
    Backbone(
        name="mobilenet_v3_small",
        title="MobileNetV3-Small",
        application="MobileNetV3Small",
        variants=(
            Variant(0.75, 583160, "small_224_0.75", "ebdb5cc8e0b497cd13a7c275d475c819"),
            Variant(1.0, 939120, "small_224_1.0", "d3e8ec802a04aa4fc771ee12a9a9b836"),
        ),
        default_size=224,
        min_size=32,
        scaling="inside",
        cuts=(
            *_numbered(
                "expanded_conv_{}_add",
                range(10, 0, -1),
                **{f"n{block}": f"expanded_conv_{block}_project_bn" for block in (8, 6, 3, 1)},
            ),
            "expanded_conv_project_bn",
            "conv_bn",
        ),
        default_unfreeze=4,
        licence=APACHE,
        source=_MODELS_GARDEN,
        url=_MOBILENET_V3_URL,
    ),
    Backbone(
        name="mobilenet_v3_large",
        title="MobileNetV3-Large",
        application="MobileNetV3Large",
        variants=(
            Variant(0.75, 1808736, "large_224_0.75", "40af19a13ebea4e2ee0c676887f69a2e"),
            Variant(1.0, 2996352, "large_224_1.0", "07fb09a5933dd0c8eaafa16978110389"),
        ),
        default_size=224,
        min_size=32,
        scaling="inside",
        cuts=(
            *_numbered(
                "expanded_conv_{}_add",
                range(14, 0, -1),
                **{f"n{block}": f"expanded_conv_{block}_project_bn" for block in (12, 10, 6, 3, 1)},
            ),
            "expanded_conv_add",
            "conv_bn",
        ),
        default_unfreeze=4,
        licence=APACHE,
        source=_MODELS_GARDEN,
        url=_MOBILENET_V3_URL,
    ),
    Backbone(
        name="inception_v3",
        title="InceptionV3",
        application="InceptionV3",
        variants=_one(21802784, "bcbd6486424b2319ff4ef7d526e38f63"),
        default_size=299,
        min_size=75,
        scaling="tf",
        cuts=(*_numbered("mixed{}", range(9, -1, -1)), "inception_v3_max_pooling2d_1"),
        default_unfreeze=2,
        licence=APACHE,
        source=_MODELS_GARDEN,
        url=KERAS_FILES + "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        name="xception",
        title="Xception",
        application="Xception",
        variants=_one(20861480, "b0042744bf5b25fce3cb969f33bebb97"),
        default_size=299,
        min_size=71,
        scaling="tf",
        cuts=(*_numbered("xception_add_{}", range(11, 0, -1)), "xception_add", "block1_conv2_act"),
        default_unfreeze=4,
        licence=MIT,
        source="François Chollet",
        url=KERAS_FILES + "xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        name="resnet50",
        title="ResNet50",
        application="ResNet50",
        variants=_one(23587712, "4d473c1dd8becc155b73f8504c6f6626"),
        default_size=224,
        min_size=32,
        scaling="caffe",
        cuts=_resnet_cuts(),
        default_unfreeze=3,
        licence=MIT,
        source="Kaiming He (KaimingHe/deep-residual-networks)",
        url=KERAS_FILES + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        name="resnet50_v2",
        title="ResNet50V2",
        application="ResNet50V2",
        variants=_one(23564800, "fac2f116257151a9d068a22e544a4917"),
        default_size=224,
        min_size=32,
        scaling="tf",
        cuts=_resnet_cuts(),
        default_unfreeze=3,
        licence=BSD,
        source="Facebook (facebook/fb.resnet.torch)",
        url=KERAS_FILES + "resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        name="densenet121",
        title="DenseNet121",
        application="DenseNet121",
        variants=_one(7037504, "30ee3e1110167f948a6b9946edeeb738"),
        default_size=224,
        min_size=32,
        scaling="torch",
        cuts=_densenet_cuts(),
        default_unfreeze=16,
        licence=BSD,
        source="Zhuang Liu (liuzhuang13/DenseNet)",
        url=KERAS_FILES + "densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        name="vgg16",
        title="VGG16",
        application="VGG16",
        variants=_one(14714688, "6d6bbae143d832006294945121d1f1fc"),
        default_size=224,
        min_size=32,
        scaling="caffe",
        cuts=_numbered("block{}_pool", range(4, 0, -1)),
        default_unfreeze=1,
        licence="CC-BY-4.0",
        source="Visual Geometry Group, Oxford",
        url=KERAS_FILES + "vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        name="nasnet_mobile",
        title="NASNet-Mobile",
        application="NASNetMobile",
        variants=_one(4269716, "1ed92395b5b598bdda52abe5c0dbfd63"),
        default_size=224,
        min_size=32,
        scaling="tf",
        cuts=("stem_bn1",),  # every cell reads the two below it: no other single place to cut with weights above it
        default_unfreeze=1,
        licence=APACHE,
        source=_MODELS_GARDEN,
        url=KERAS_FILES + "nasnet/NASNet-mobile-no-top.h5",
        cache_name="nasnet_mobile_no_top.h5",
    ),
    _efficientnet("b0", 224, 4049571, "50bc09e76180e00e4465e1a485ddc09d"),
    _efficientnet("b1", 240, 6575239, "74c4e6b3e1f6a1eea24c589628592432"),
    _efficientnet("b2", 260, 7768569, "111f8e2ac8aa800a7a99e3239f7bfb39"),
    _efficientnet("b3", 300, 10783535, "af6d107764bb5b1abb91932881670226"),
    _efficientnet_v2("b0", 224, 5919312, "893217f2bb855e2983157299931e43ff"),
    _efficientnet_v2("b1", 240, 6931124, "0e80663031ca32d657f9caa404b6ec37"),
    _efficientnet_v2("b2", 260, 8769374, "1dfe2e7a5d45b6632553a8961ea609eb"),
    _efficientnet_v2("b3", 300, 12930622, "f6abf7b5849ac99a89b50dd3fd532856"),
    _efficientnet_v2("s", 384, 20331360, "af0682fb74e8c54910f2d4393339c070"),
    Backbone(
        name="convnext_tiny",
        title="ConvNeXt-Tiny",
        application="ConvNeXtTiny",
        variants=_one(27820128, "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1"),
        default_size=224,
        min_size=32,
        scaling="inside",
        # whole stages: the residual sums inside them are bare operations, which are no layers to cut at
        cuts=(*_numbered("convnext_tiny_downsampling_conv_{}", range(2, -1, -1)), "convnext_tiny_stem_layernorm"),
        default_unfreeze=1,
        licence=MIT,
        source="Facebook (facebookresearch/ConvNeXt)",
        url=KERAS_FILES + "convnext/convnext_tiny_notop.h5",
    ),
)
